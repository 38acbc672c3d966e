// parallel/message_tag.h: what a message's tag says: which round of the group it belongs to, and of which call.
//
//   low bits    the round's number in its group, modulo a power of two
//   then        verb (4 bits), dtype (4 bits)
//   the rest    a hash of the call's history and of the message's own size
//
// A receive is posted with the tag of the message that it expects, so that one of any other call never arrives in its
// memory. MPI promises 15 bits, Open MPI gives 31: 12 bits of rounds, 11 of the hash.
#pragma once

#include <cstdint>

#include "parallel/collective_call.h"

namespace shoal {

class MessageTags {
 public:
  // `largest`: MPI_TAG_UB; at least 32767.
  explicit MessageTags(int largest);

  // `round`: Round::tag.
  int tag(const CollectiveCall& call, int64_t round, int64_t bytes) const;

  // What is said in clear.
  Verb verb(int tag) const;
  DType dtype(int tag) const;
  // The round that the tag belongs to, if it is near this one: some may be long ago, many may come.
  int64_t round_near(int tag, int64_t near) const;

 private:
  int round_bits_, hash_bits_;
};

}  // namespace shoal
