// tests/train/microbatches_test.cpp: every sequence once, in order, whatever the ranks.
#include "core/train/microbatches.h"

#include <catch2/catch.hpp>

#include "core/train/rehearsal.h"
#include "core/train/schedule.h"

using namespace shoal;

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
  const std::vector<Microbatch> pieces = make_microbatches(batches, 9, {.first = 100, .count = 12}, 0, stream);
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
  const std::vector<Microbatch> pieces = make_microbatches({batch, batch}, 1, {.first = 0, .count = 4}, 0, stream);
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

TEST_CASE("multi-token targets look further on, and never beyond sequence or document", "[microbatches]") {
  Allocator allocator(DeviceKind::kCpu);
  Stream stream(allocator);
  Batch batch;
  batch.range = {.first = 0, .count = 2};
  batch.seq_len = 5;
  batch.tokens = {10, 11, 12, 13, 14, 20, 21, 22, 23, 24};
  batch.targets = {11, 12, 13, 14, 15, 21, -1, 23, 24, 25};  // one is masked
  batch.positions = {0, 1, 2, 3, 4, 0, 1, 0, 1, 2};
  batch.document_offsets = {0, 5, 7, 10};  // the second sequence holds two documents
  const auto pieces = make_microbatches({batch}, 1, batch.range, 2, stream);
  REQUIRE(pieces[0].mtp.size() == 2);
  const auto tokens = [&](size_t depth) { return pieces[0].mtp[depth].tokens.to_vector<int32_t>(); };
  const auto targets = [&](size_t depth) { return pieces[0].mtp[depth].targets.to_vector<int32_t>(); };
  // What is read where the target is masked does not matter.
  CHECK(tokens(0) == std::vector<int32_t>{11, 12, 13, 14, 0, 21, 0, 23, 24, 0});
  CHECK(targets(0) == std::vector<int32_t>{12, 13, 14, 15, -1, -1, -1, 24, 25, -1});
  CHECK(pieces[0].mtp[0].scored_tokens == 6);
  CHECK(tokens(1) == std::vector<int32_t>{12, 13, 14, 0, 0, 0, 0, 24, 0, 0});
  CHECK(targets(1) == std::vector<int32_t>{13, 14, 15, -1, -1, -1, -1, 25, -1, -1});
  CHECK(pieces[0].mtp[1].scored_tokens == 4);
  CHECK(make_microbatches({batch}, 1, batch.range, 0, stream)[0].mtp.empty());
}
