// parallel/message_tag.cpp: bits packed and unpacked.
#include "parallel/message_tag.h"

#include <algorithm>
#include <bit>

#include "core/base/check.h"
#include "parallel/group_id.h"

namespace shoal {

namespace {

constexpr int kVerbBits = 4, kTypeBits = 4, kCallBits = kVerbBits + kTypeBits;
constexpr int kMostRoundBits = 12;
static_assert(kNumVerbs <= 1 << kVerbBits);

constexpr int64_t low_bits(int count) { return (int64_t{1} << count) - 1; }

}  // namespace

MessageTags::MessageTags(int largest) {
  SHOAL_CHECK(largest >= 32767, "tags up to {}", largest);
  const int bits = std::bit_width(static_cast<uint64_t>(largest) + 1) - 1 - kCallBits;  // all tags of so many are legal
  round_bits_ = std::min(kMostRoundBits, std::max(7, bits / 2 + 1));
  hash_bits_ = bits - round_bits_;
}

int MessageTags::tag(const CollectiveCall& call, int64_t round, int64_t bytes) const {
  const uint64_t hash = mixed(call.history, static_cast<uint64_t>(bytes));
  int64_t tag = static_cast<int64_t>(hash >> 8) & low_bits(hash_bits_);
  tag = tag << kTypeBits | static_cast<int64_t>(call.dtype);
  tag = tag << kVerbBits | static_cast<int64_t>(call.verb);
  tag = tag << round_bits_ | (round & low_bits(round_bits_));
  return static_cast<int>(tag);
}

Verb MessageTags::verb(int tag) const { return static_cast<Verb>(tag >> round_bits_ & low_bits(kVerbBits)); }

DType MessageTags::dtype(int tag) const {
  return static_cast<DType>(tag >> (round_bits_ + kVerbBits) & low_bits(kTypeBits));
}

int64_t MessageTags::round_near(int tag, int64_t near) const {
  const int64_t span = int64_t{1} << round_bits_;
  const int64_t behind = span / 16;
  return near - behind + (((tag & low_bits(round_bits_)) - near + behind) & (span - 1));
}

}  // namespace shoal
