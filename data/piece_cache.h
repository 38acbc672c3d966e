// data/piece_cache.h: tokens of short pieces that were encoded before, for one thread at a time.
//
// Most of a text is a few thousand words: a piece costs a hash and one cache line instead of its merges. Each slot has
// one piece, and the next one that falls on it takes its place.
#pragma once

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace shoal {

class PieceCache {
 public:
  // Longer pieces, and those of more tokens, are rare and stay out.
  static constexpr size_t kMaxPieceBytes = 30;
  static constexpr size_t kMaxIds = 8;

  PieceCache() : slots_(kNumSlots) {}

  // Appends the ids of a known piece and returns true. `piece` is not empty.
  bool append(std::string_view piece, std::vector<int32_t>& ids) const {
    if (piece.size() > kMaxPieceBytes) return false;
    const Slot& slot = slots_[slot_of(piece)];
    if (slot.num_bytes != piece.size() || std::memcmp(slot.bytes.data(), piece.data(), piece.size()) != 0) return false;
    ids.insert(ids.end(), slot.ids.begin(), slot.ids.begin() + slot.num_ids);
    return true;
  }

  void insert(std::string_view piece, std::span<const int32_t> ids) {
    if (piece.size() > kMaxPieceBytes || ids.size() > kMaxIds) return;
    Slot& slot = slots_[slot_of(piece)];
    slot.num_bytes = static_cast<uint8_t>(piece.size());
    slot.num_ids = static_cast<uint8_t>(ids.size());
    std::memcpy(slot.bytes.data(), piece.data(), piece.size());
    std::ranges::copy(ids, slot.ids.begin());
  }

 private:
  static constexpr size_t kNumSlots = size_t{1} << 16;  // 4 MiB

  struct alignas(64) Slot {
    uint8_t num_bytes = 0;  // 0: empty
    uint8_t num_ids = 0;
    std::array<char, kMaxPieceBytes> bytes{};
    std::array<int32_t, kMaxIds> ids{};
  };
  static_assert(sizeof(Slot) == 64);

  static size_t slot_of(std::string_view piece) { return XXH3_64bits(piece.data(), piece.size()) % kNumSlots; }

  std::vector<Slot> slots_;
};

}  // namespace shoal
