// kernels/vocab_shard.h: a rank's range of the vocabulary, where table or logits are split over ranks by token id.
#pragma once

#include <cstdint>

#include "core/base/check.h"

namespace shoal {

// The rank holds ids [first_id, first_id + count) of [0, vocab); count is the operand's: rows of a table, columns of
// logits. It may be 0. {0, count} is a vocabulary in one piece.
struct VocabShard {
  int64_t first_id = 0;
  int64_t vocab = 0;
};

inline void check_shard(VocabShard shard, int64_t count) {
  SHOAL_CHECK(shard.first_id >= 0 && shard.first_id + count <= shard.vocab, "ids [{}, {}) of a vocabulary of {}",
              shard.first_id, shard.first_id + count, shard.vocab);
}

}  // namespace shoal
