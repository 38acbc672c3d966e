// data/bpe_merges.h: byte-pair encoding of one piece: of all neighbours that have a merge, always the earliest merge,
// the leftmost of equals, until none is left (Sennrich et al., arXiv:1508.07909).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/tokenizer_json.h"

namespace shoal {

// Immutable and thread-safe once made.
class BpeMerges {
 public:
  // What one thread needs: reused from piece to piece.
  struct Scratch {
    struct Symbol {
      int32_t id = 0;  // -1: taken into the one before it
      int32_t previous = 0;
      int32_t next = 0;
    };
    struct Candidate {
      int32_t rank = 0;
      int32_t at = 0;  // its left symbol
      int32_t left = 0;
      int32_t right = 0;
      int32_t result = 0;
      // A heap of std has the largest on top: the one to come first.
      bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  // `merges`: first the one that goes first; of two for one pair, the later counts. byte_ids[256]: -1 for bytes without
  // a token, which are left out.
  BpeMerges(std::span<const BpeMerge> merges, std::vector<int32_t> byte_ids);

  // Appends the tokens of `piece`. O(n log n) time; a piece of more than 16 MiB is encoded in parts of that size, so
  // that memory stays bounded.
  void encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const;

 private:
  struct Slot {
    uint64_t pair = kNoPair;
    int32_t rank = 0;
    int32_t result = 0;
  };
  static constexpr uint64_t kNoPair = ~uint64_t{0};

  size_t slot_of(uint64_t pair) const;  // where it is or belongs
  void push(int32_t at, Scratch& scratch) const;

  std::vector<int32_t> byte_ids_;
  std::vector<Slot> slots_;  // open addressing; a power of two, at most half full
  int shift_ = 0;
};

}  // namespace shoal
