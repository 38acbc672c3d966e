// tests/data/loader_test.cpp: batches, and a prefetch thread that keeps order and hands on errors.
#include "data/loader.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <thread>

#include "core/base/check.h"

using namespace shoal;
using Catch::Matchers::Contains;

namespace {

// Sample i: tokens 10 i, 10 i + 1, …; document starts at 0 and, for odd i, at 2; fails at one index.
class NumberStream final : public SampleStream {
 public:
  explicit NumberStream(int64_t fails_at = -1) : fails_at_(fails_at) {}
  int64_t seq_len() const override { return 4; }
  int64_t num_samples() const override { return kEndless; }
  void read(int64_t index, Sample& sample) const override {
    ++num_reads;
    if (index == fails_at_) fail("sample {} cannot be read", index);
    const auto base = static_cast<int32_t>(10 * index);
    sample.tokens = {base, base + 1, base + 2, base + 3};
    sample.targets = {base + 1, base + 2, base + 3, -1};
    sample.positions = {0, 1, 2, 3};
    sample.document_starts = {0};
    if (index % 2 == 1) {
      sample.positions = {0, 1, 0, 1};
      sample.document_starts.push_back(2);
    }
  }
  mutable std::atomic<int64_t> num_reads = 0;

 private:
  int64_t fails_at_;
};

// Steps of two microbatches, of `size` samples and of one.
RangeSchedule steps_of(int64_t size, int64_t num_steps) {
  return [=](int64_t k) -> std::optional<std::vector<SampleRange>> {
    if (k == num_steps) return std::nullopt;
    const int64_t first = k * (size + 1);
    return std::vector<SampleRange>{{first, size}, {first + size, 1}};
  };
}

}  // namespace

TEST_CASE("a batch is its samples end to end") {
  const Batch batch = read_batch(NumberStream(), {2, 2});
  CHECK(batch.rows() == 8);
  CHECK(batch.num_scored() == 6);
  CHECK(batch.tokens == std::vector<int32_t>{20, 21, 22, 23, 30, 31, 32, 33});
  CHECK(batch.targets == std::vector<int32_t>{21, 22, 23, -1, 31, 32, 33, -1});
  CHECK(batch.positions == std::vector<int32_t>{0, 1, 2, 3, 0, 1, 0, 1});
  CHECK(batch.document_offsets == std::vector<int64_t>{0, 4, 6, 8});
  const Batch empty = read_batch(NumberStream(), {7, 0});
  CHECK(empty.rows() == 0);
  CHECK(empty.document_offsets == std::vector<int64_t>{0});
}

TEST_CASE("a prefetcher gives a schedule's steps in order, and then its end") {
  for (const int depth : {0, 1, 2, 50}) {
    Prefetcher prefetcher(std::make_shared<NumberStream>(), steps_of(3, 20), depth);
    for (int64_t k = 0; k < 20; ++k) {
      const auto batches = prefetcher.next();
      REQUIRE(batches);
      REQUIRE(batches->size() == 2);
      CHECK(batches->at(0).range == SampleRange{4 * k, 3});
      CHECK(batches->at(0).tokens.front() == 40 * k);
      CHECK(batches->at(1).range == SampleRange{4 * k + 3, 1});
      CHECK(batches->at(1).tokens.front() == 40 * k + 30);
    }
    CHECK_FALSE(prefetcher.next());
    CHECK_FALSE(prefetcher.next());
  }
}

TEST_CASE("a prefetcher stays within its depth, and can be left early") {
  const auto stream = std::make_shared<NumberStream>();
  Prefetcher prefetcher(
      stream,
      [](int64_t k) {
        return std::vector{SampleRange{k, 1}};
      },
      3);
  CHECK(prefetcher.next());
  while (stream->num_reads < 4) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(stream->num_reads == 4);  // 1 taken, 3 wait
}

TEST_CASE("errors of the stream and of the schedule reach the caller after the batches before them") {
  Prefetcher prefetcher(std::make_shared<NumberStream>(7), steps_of(2, 100), 4);
  CHECK(prefetcher.next()->at(0).range.first == 0);
  CHECK(prefetcher.next()->at(0).range.first == 3);
  CHECK_THROWS_WITH(prefetcher.next(), Contains("sample 7 cannot be read"));
  CHECK_THROWS_WITH(prefetcher.next(), Contains("sample 7 cannot be read"));

  Prefetcher no_schedule(
      std::make_shared<NumberStream>(),
      [](int64_t) -> std::optional<std::vector<SampleRange>> { fail("no such step"); }, 1);
  CHECK_THROWS_WITH(no_schedule.next(), Contains("no such step"));
}
