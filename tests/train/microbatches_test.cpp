// tests/train/microbatches_test.cpp: every sequence once, in order, whatever the ranks.
#include "core/train/microbatches.h"

#include <catch2/catch.hpp>

#include "core/train/rehearsal.h"
#include "core/train/schedule.h"

using namespace shoal;

TEST_CASE("shares are contiguous, nearly equal and cover everything", "[microbatches]") {
  for (const int64_t total : {0, 1, 5, 24, 25}) {
    for (const int64_t parts : {1, 2, 3, 7, 32}) {
      int64_t next = 0;
      for (int64_t i = 0; i < parts; ++i) {
        const SampleRange share = share_of(total, i, parts);
        CHECK(share.first == next);
        CHECK((share.count == total / parts || share.count == total / parts + 1));
        next += share.count;
      }
      CHECK(next == total);
    }
  }
}

TEST_CASE("all ranks run the same number of microbatches, none too large", "[microbatches]") {
  CHECK(num_microbatches(24, 2, 6) == 2);
  CHECK(num_microbatches(24, 1, 6) == 4);
  CHECK(num_microbatches(1, 8, 6) == 1);
  CHECK(num_microbatches(25, 2, 6) == 3);  // one rank holds 13
  for (const int64_t sequences : {1, 7, 24}) {
    for (const int ranks : {1, 2, 3, 8}) {
      const int64_t count = num_microbatches(sequences, ranks, 4);
      for (int rank = 0; rank < ranks; ++rank) {
        const std::vector<SampleRange> mine = deal_sequences({100, sequences}, rank, ranks, count);
        CHECK(static_cast<int64_t>(mine.size()) == count);
        for (const SampleRange& range : mine) CHECK(range.count <= 4);
      }
    }
  }
}

TEST_CASE("rounds of ranks go through a step's sequences in order", "[microbatches]") {
  for (const int64_t sequences : {0, 1, 7, 24, 25}) {
    for (const int ranks : {1, 2, 3, 8}) {
      for (const int64_t count : {1, 2, 5}) {
        int64_t next = 100;
        for (size_t round = 0; round < static_cast<size_t>(count); ++round) {
          for (int rank = 0; rank < ranks; ++rank) {
            const SampleRange range = deal_sequences({100, sequences}, rank, ranks, count)[round];
            CHECK(range.first == next);
            next += range.count;
          }
        }
        CHECK(next == 100 + sequences);
      }
    }
  }
}

TEST_CASE("microbatches carry the batch's rows and their place in the step", "[microbatches]") {
  Allocator allocator(DeviceKind::kCpu);
  Stream stream(allocator);
  const std::vector<Batch> batches{random_batch({.first = 103, .count = 2}, 7, 50, 1),
                                   random_batch({.first = 109, .count = 3}, 7, 50, 1)};
  const std::vector<Microbatch> pieces = make_microbatches(batches, 9, {.first = 100, .count = 12}, stream);
  REQUIRE(pieces.size() == 2);
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Microbatch& piece = pieces[i];
    CHECK(piece.step == 9);
    CHECK(piece.first_global_row == (batches[i].range.first - 100) * 7);
    CHECK(piece.rows() == batches[i].rows());
    CHECK(piece.document_offsets == piece.sequence_offsets);
    CHECK(piece.sequence_offsets.back() == piece.rows());
    CHECK(piece.sequence_scale == Approx(1.0 / 12));
    CHECK(piece.rows_share == Approx(static_cast<double>(piece.rows()) / (12 * 7)));
    CHECK(piece.tokens.to_vector<int32_t>() == batches[i].tokens);
    CHECK(piece.targets.to_vector<int32_t>() == batches[i].targets);
    CHECK(piece.positions.to_vector<int32_t>() == batches[i].positions);
  }
}

TEST_CASE("a rank without sequences still has its microbatches, empty", "[microbatches]") {
  Allocator allocator(DeviceKind::kCpu);
  Stream stream(allocator);
  const Batch batch = random_batch({.first = 4, .count = 0}, 7, 50, 1);
  const std::vector<Microbatch> pieces = make_microbatches({batch, batch}, 1, {.first = 0, .count = 4}, stream);
  REQUIRE(pieces.size() == 2);
  for (const Microbatch& piece : pieces) {
    CHECK(piece.rows() == 0);
    CHECK(piece.document_offsets == std::vector<int64_t>{0});
    CHECK(piece.sequence_offsets == std::vector<int64_t>{0});
  }
}

TEST_CASE("one lane runs forward and backward of each microbatch in turn", "[schedule]") {
  const Schedule expected{{{ActionKind::kForward, 0}},
                          {{ActionKind::kBackward, 0}},
                          {{ActionKind::kForward, 1}},
                          {{ActionKind::kBackward, 1}}};
  CHECK(one_lane_schedule(2) == expected);
}
