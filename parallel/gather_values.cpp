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

namespace {

// The root's values, of which the others do not know how many there are.
template <class T>
std::vector<T> broadcast_values(Communicator& group, Allocator& allocator, const std::vector<T>& values, int root) {
  const auto mine = static_cast<int64_t>(group.rank() == root ? values.size() : 0);
  const int64_t count = gather_numbers(group, allocator, mine)[static_cast<size_t>(root)];
  const Tensor sent = Tensor::empty({count}, DTypeOf<T>::value, allocator, MemoryKind::kWorkspace);
  if (group.rank() == root) sent.copy_from(values);
  wait(group.broadcast(sent, root));
  return sent.to_vector<T>();
}

}  // namespace

std::vector<int64_t> broadcast_numbers(Communicator& group, Allocator& allocator, const std::vector<int64_t>& numbers,
                                       int root) {
  return broadcast_values(group, allocator, numbers, root);
}

std::string broadcast_text(Communicator& group, Allocator& allocator, const std::string& text, int root) {
  const std::vector<uint8_t> heard =
      broadcast_values(group, allocator, std::vector<uint8_t>(text.begin(), text.end()), root);
  return {heard.begin(), heard.end()};
}

}  // namespace shoal
