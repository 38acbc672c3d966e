// parallel/gather_values.cpp: sizes first, then one message a rank.
#include "parallel/gather_values.h"

#include <numeric>

namespace shoal {

namespace {

Tensor bytes_of(const std::string& text, Allocator& allocator) {
  const Tensor bytes =
      Tensor::empty({static_cast<int64_t>(text.size())}, DType::kU8, allocator, MemoryKind::kWorkspace);
  bytes.copy_from(std::vector<uint8_t>(text.begin(), text.end()));
  return bytes;
}

}  // namespace

std::vector<int64_t> gather_numbers(Communicator& group, Allocator& allocator, int64_t mine) {
  const Tensor all = Tensor::empty({group.size()}, DType::kI64, allocator, MemoryKind::kWorkspace);
  all.rows(group.rank(), 1).copy_from<int64_t>({mine});
  wait(group.all_gather(all, all.rows(group.rank(), 1)));
  return all.to_vector<int64_t>();
}

std::vector<std::string> gather_texts(Communicator& group, Allocator& allocator, const std::string& mine) {
  const std::vector<int64_t> sizes = gather_numbers(group, allocator, static_cast<int64_t>(mine.size()));
  const bool root = group.rank() == 0;
  std::vector<int64_t> received(sizes.size()), sent(sizes.size());
  if (root) received = sizes;
  sent[0] = static_cast<int64_t>(mine.size());
  const int64_t total = std::accumulate(received.begin(), received.end(), int64_t{0});
  const Tensor all = Tensor::empty({total}, DType::kU8, allocator, MemoryKind::kWorkspace);
  wait(group.all_to_all_rows(all, received, bytes_of(mine, allocator), sent));
  std::vector<std::string> texts;
  if (!root) return texts;
  const std::vector<uint8_t> bytes = all.to_vector<uint8_t>();
  auto from = bytes.begin();
  for (const int64_t size : sizes) {
    texts.emplace_back(from, from + size);
    from += size;
  }
  return texts;
}

std::string broadcast_text(Communicator& group, Allocator& allocator, const std::string& text, int root) {
  const bool speaks = group.rank() == root;
  const std::vector<int64_t> sizes =
      gather_numbers(group, allocator, speaks ? static_cast<int64_t>(text.size()) : int64_t{0});
  const Tensor bytes =
      speaks ? bytes_of(text, allocator)
             : Tensor::empty({sizes[static_cast<size_t>(root)]}, DType::kU8, allocator, MemoryKind::kWorkspace);
  wait(group.broadcast(bytes, root));
  const std::vector<uint8_t> heard = bytes.to_vector<uint8_t>();
  return {heard.begin(), heard.end()};
}

}  // namespace shoal
