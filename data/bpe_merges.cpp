// data/bpe_merges.cpp: a linked list of symbols and a heap of candidates, of which outdated ones are passed over.
#include "data/bpe_merges.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace shoal {
namespace {

constexpr size_t kMaxPartBytes = size_t{16} << 20;

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

BpeMerges::BpeMerges(std::span<const BpeMerge> merges, std::vector<int32_t> byte_ids) : byte_ids_(std::move(byte_ids)) {
  const size_t size = std::bit_ceil(std::max<size_t>(16, 2 * merges.size()));
  shift_ = 64 - std::countr_zero(size);
  slots_.resize(size);
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const uint64_t pair = pair_of(merges[rank].left, merges[rank].right);
    slots_[slot_of(pair)] = {.pair = pair, .rank = static_cast<int32_t>(rank), .result = merges[rank].result};
  }
}

size_t BpeMerges::slot_of(uint64_t pair) const {
  size_t slot = (pair * 0x9E3779B97F4A7C15u) >> shift_;
  while (slots_[slot].pair != pair && slots_[slot].pair != kNoPair) slot = (slot + 1) & (slots_.size() - 1);
  return slot;
}

void BpeMerges::push(int32_t at, Scratch& scratch) const {
  const Scratch::Symbol& symbol = scratch.symbols[static_cast<size_t>(at)];
  if (symbol.next < 0) return;
  const int32_t right = scratch.symbols[static_cast<size_t>(symbol.next)].id;
  const Slot& slot = slots_[slot_of(pair_of(symbol.id, right))];
  if (slot.pair == kNoPair) return;
  scratch.heap.push_back({.rank = slot.rank, .at = at, .left = symbol.id, .right = right, .result = slot.result});
  std::push_heap(scratch.heap.begin(), scratch.heap.end());
}

void BpeMerges::encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  while (piece.size() > kMaxPartBytes) {
    encode(piece.substr(0, kMaxPartBytes), scratch, ids);
    piece.remove_prefix(kMaxPartBytes);
  }
  auto& symbols = scratch.symbols;
  symbols.clear();
  scratch.heap.clear();
  for (const char byte : piece) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(byte)];
    const auto at = static_cast<int32_t>(symbols.size());
    if (id >= 0) symbols.push_back({.id = id, .previous = at - 1, .next = at + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;
  for (size_t at = 0; at + 1 < symbols.size(); ++at) push(static_cast<int32_t>(at), scratch);
  while (!scratch.heap.empty()) {
    std::pop_heap(scratch.heap.begin(), scratch.heap.end());
    const Scratch::Candidate best = scratch.heap.back();
    scratch.heap.pop_back();
    Scratch::Symbol& left = symbols[static_cast<size_t>(best.at)];
    if (left.id != best.left || left.next < 0) continue;
    Scratch::Symbol& right = symbols[static_cast<size_t>(left.next)];
    if (right.id != best.right) continue;
    left.id = best.result;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = best.at;
    if (left.previous >= 0) push(left.previous, scratch);
    push(best.at, scratch);
  }
  for (int32_t at = 0; at >= 0; at = symbols[static_cast<size_t>(at)].next) {
    ids.push_back(symbols[static_cast<size_t>(at)].id);
  }
  constexpr size_t kKept = 64 << 10;  // a thread need not hold on to what one huge piece took
  if (symbols.size() > kKept) scratch = {};
}

}  // namespace shoal
