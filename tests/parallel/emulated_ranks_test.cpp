// tests/parallel/emulated_ranks_test.cpp: ranks on imagined links, over threads and over MPI: nothing arrives sooner
// than it may, changes its bits, burns the CPU or hangs.
#include <catch2/catch.hpp>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "parallel/mpi_session.h"
#include "parallel/thread_communicator.h"
#include "tests/parallel/communicator_checks.h"

using Catch::Matchers::Contains;

namespace shoal {

namespace {

constexpr int64_t kMegabyte = 1'000'000;

// 1 MB takes 10 ms between nodes and 1 ms inside one.
EmulatedLinks slow_links() {
  return {.intra_node = LinkSpeed{.bytes_per_s = 1e9, .latency_s = 0.0005},
          .inter_node = LinkSpeed{.bytes_per_s = 1e8, .latency_s = 0.002}};
}
// So fast that thousands of messages take no time to speak of, and no two take the same.
EmulatedLinks fast_links() {
  return {.intra_node = LinkSpeed{.bytes_per_s = 2e10, .latency_s = 3e-6},
          .inter_node = LinkSpeed{.bytes_per_s = 5e9, .latency_s = 2e-5},
          .jitter = 3,
          .slow_rank = 0,
          .slow_factor = 4};
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}
double cpu_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

Tensor bytes_of_zeros(int64_t bytes) { return tensor_of(std::vector<float>(static_cast<size_t>(bytes / 4))); }

// Rank 0's bytes to all others: they are there no sooner than links allow, and rank 0 has its buffer back no sooner
// than all of it has left.
void check_broadcast_takes(Communicator& world, int64_t bytes, double seconds, double seconds_to_send) {
  wait(world.barrier());
  const Tensor x = tensor_of(values_of<float>(world.rank(), bytes / 4, "sent"));
  wait(world.barrier());
  const auto begin = std::chrono::steady_clock::now();
  const OperationPtr operation = world.broadcast(x, 0);
  wait(operation);
  const double taken = seconds_since(begin);
  RANK_CHECK(world.rank() != 0 || taken >= seconds_to_send);
  RANK_CHECK(same_bits(x.to_vector<float>(), values_of<float>(0, bytes / 4, "sent")));
  // Posted by rank 0, arrived at the last rank: on one clock.
  const WireSpan span = operation->span();
  RANK_CHECK(span.posted_ns > 0 && span.completed_ns >= span.posted_ns);
  const Tensor times = Tensor::zeros({2 * world.size()}, DType::kI64, cpu(), MemoryKind::kWorkspace);
  const Tensor own = times.rows(2 * world.rank(), 2);
  own.copy_from<int64_t>({span.posted_ns, span.completed_ns});
  wait(world.all_gather(times, own));
  int64_t last = 0;
  for (int rank = 1; rank < world.size(); ++rank) last = std::max(last, times.data<int64_t>()[2 * rank + 1]);
  if (world.size() > 1) RANK_CHECK(static_cast<double>(last - times.data<int64_t>()[0]) * 1e-9 >= seconds);
}

// An all-reduce of 0.8 s a peer, in which nobody computes.
void check_burns_no_cpu(Communicator& world) {
  if (world.size() == 1) return;
  const Tensor x = bytes_of_zeros(8000);  // to each other rank
  wait(world.barrier());
  const double before = cpu_seconds();
  const auto begin = std::chrono::steady_clock::now();
  wait(world.all_reduce(x));
  RANK_CHECK(seconds_since(begin) >= 0.8);
  RANK_CHECK(cpu_seconds() - before < 0.2);
}
EmulatedLinks crawling_links() {
  const LinkSpeed crawling{.bytes_per_s = 1e4, .latency_s = 0};
  return {.intra_node = crawling, .inter_node = crawling};
}

// Spans name the operation alike on all ranks.
void check_spans(Communicator& world) {
  const auto half = world.group({world.rank()});
  const auto copy = world.group(all_ranks(world));
  const Tensor x = tensor_of(std::vector<float>(9000));
  const OperationPtr first = world.all_reduce(x);
  first->wait();
  const OperationPtr second = world.all_gather(tensor_of(std::vector<float>(30 * static_cast<size_t>(world.size()))),
                                               tensor_of(std::vector<float>(30)));
  second->wait();
  const OperationPtr other = copy->barrier();
  other->wait();
  const WireSpan a = first->span(), b = second->span(), c = other->span();
  RANK_CHECK(a.group == b.group && a.tag != b.tag);
  RANK_CHECK(world.size() == 1 || a.group != c.group);
  RANK_CHECK(a.posted_ns <= a.completed_ns && a.completed_ns <= b.posted_ns);
  RANK_CHECK(b.bytes == 120 * (world.size() - 1) && c.bytes == 0);
  RANK_CHECK(b.rank == world.rank() && b.size == world.size() && c.size == world.size());
  RANK_CHECK(b.sent_to == (uint64_t{1} << (world.size() - 1)) - 1 && c.sent_to == 0);
  const OperationPtr told = world.broadcast(x, world.size() - 1);
  told->wait();
  RANK_CHECK(told->span().sent_to == (world.rank() == world.size() - 1 ? b.sent_to : 0));
  RANK_CHECK(world.size() == 1 || half->id() != copy->id());
  const Tensor names = Tensor::zeros({3 * world.size()}, DType::kI64, cpu(), MemoryKind::kWorkspace);
  const Tensor own = names.rows(3 * world.rank(), 3);
  own.copy_from<int64_t>({static_cast<int64_t>(a.group), a.tag, static_cast<int64_t>(c.group)});
  wait(world.all_gather(names, own));
  for (int64_t i = 0; i < names.numel(); ++i) RANK_CHECK(names.data<int64_t>()[i] == own.data<int64_t>()[i % 3]);
}

}  // namespace

TEST_CASE("every verb over threads on emulated links", "[threads]") {
  for (const int size : {1, 2, 3, 4}) {
    check_every_verb(
        [size](const Check& check) {
          run_thread_ranks(size, {.ranks_per_node = 2, .emulate = fast_links()},
                           [&](Communicator& world, Allocator&) { check(world); });
        },
        fmt::format(", {} ranks", size));
  }
  check_every_verb(
      [](const Check& check) {
        run_thread_ranks(5, {.ranks_per_node = 2, .max_message_bytes = 1001, .emulate = fast_links()},
                         [&](Communicator& world, Allocator&) { check_in_halves(world, check); });
      },
      ", in halves");
}

TEST_CASE("over threads no message is sooner than its link allows, and nobody computes meanwhile", "[threads]") {
  // Between two nodes of one rank, inside one, and two ranks behind one uplink.
  run_thread_ranks(2, {.ranks_per_node = 1, .emulate = slow_links()},
                   [](Communicator& world, Allocator&) { check_broadcast_takes(world, 2 * kMegabyte, 0.022, 0.020); });
  run_thread_ranks(2, {.emulate = slow_links()},
                   [](Communicator& world, Allocator&) { check_broadcast_takes(world, 3 * kMegabyte, 0.0035, 0.003); });
  run_thread_ranks(4, {.ranks_per_node = 2, .emulate = slow_links()},
                   [](Communicator& world, Allocator&) { check_broadcast_takes(world, kMegabyte, 0.022, 0.020); });
  run_thread_ranks(2, {.emulate = crawling_links()},
                   [](Communicator& world, Allocator&) { check_burns_no_cpu(world); });
}

TEST_CASE("groups of a world queue on the same links", "[threads]") {
  run_thread_ranks(2, {.ranks_per_node = 1, .emulate = slow_links()}, [](Communicator& world, Allocator&) {
    const auto copy = world.group({0, 1});
    wait(world.barrier());
    const OperationPtr first = world.broadcast(bytes_of_zeros(2 * kMegabyte), 0);
    const OperationPtr second = copy->broadcast(bytes_of_zeros(4), 0);
    second->wait();  // behind the megabytes
    RANK_CHECK(world.rank() == 0 || first->done());
    first->wait();
  });
}

TEST_CASE("operations have spans over threads", "[threads]") {
  run_thread_ranks(3, {}, [](Communicator& world, Allocator&) { check_spans(world); });
  run_thread_ranks(3, {.emulate = fast_links()}, [](Communicator& world, Allocator&) { check_spans(world); });
}

TEST_CASE("threads that leave on emulated links leave their operations to the timer", "[threads]") {
  for (int late = 0; late < 3; ++late) {
    run_thread_ranks(3, {.ranks_per_node = 1, .emulate = slow_links()}, [&](Communicator& world, Allocator& memory) {
      const MemoryOfChecks of_checks(memory);
      const Tensor x = tensor_of(values_of<float>(world.rank(), 20011, "all"));
      const OperationPtr kept = world.all_reduce(x);
      for (int i = 0; i < 5; ++i) world.broadcast(tensor_of(std::vector<float>(30000)), 0);
      if (world.rank() != late) return;
      wait(kept);
      RANK_CHECK(same_bits(x.to_vector<float>(), sum_of_ranks<float>(world.size(), 0, 20011, "all")));
    });
  }
}

TEST_CASE("a thread that fails while messages are on their way for minutes ends all of them now", "[threads]") {
  const auto begin = std::chrono::steady_clock::now();
  const auto body = [&](Communicator& world, Allocator& memory) {
    const MemoryOfChecks of_checks(memory);
    const OperationPtr slow = world.all_reduce(bytes_of_zeros(4 * kMegabyte));
    const OperationPtr behind = world.barrier();
    if (world.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      fail("token 9 is beyond the vocabulary");
    }
    RANK_CHECK(error_of([&] { behind->wait(); }) == "rank 1 failed: token 9 is beyond the vocabulary");
    slow->wait();
  };
  REQUIRE_THROWS_WITH(run_thread_ranks(3, {.emulate = crawling_links()}, body),
                      Catch::Equals("token 9 is beyond the vocabulary"));
  CHECK(seconds_since(begin) < 60);  // the links would take 14 minutes
}

TEST_CASE("every verb over MPI on emulated links", "[mpi]") {
  check_every_verb([](const Check& check) {
    MpiSession session;
    const auto world = session.world(cpu(), {.ranks_per_node = 2, .max_message_bytes = 1001, .emulate = fast_links()});
    check_in_halves(*world, check);
    check(*world);
  });
}

TEST_CASE("over MPI no message is sooner than its link allows, and nobody computes meanwhile", "[mpi]") {
  MpiSession session;
  const double others = session.size() - 1;
  check_broadcast_takes(*session.world(cpu(), {.ranks_per_node = 1, .emulate = slow_links()}), 2 * kMegabyte,
                        0.020 * others + 0.002, 0.020 * others);
  check_broadcast_takes(*session.world(cpu(), {.emulate = slow_links()}), 3 * kMegabyte, 0.003 * others + 0.0005,
                        0.003 * others);
  check_burns_no_cpu(*session.world(cpu(), {.emulate = crawling_links()}));
}

TEST_CASE("operations have spans over MPI, with links as they are and emulated", "[mpi]") {
  MpiSession session;
  check_spans(*session.world(cpu()));
  check_spans(*session.world(cpu(), {.emulate = fast_links()}));
}

TEST_CASE("operations nobody waited for on emulated links are completed before the session ends", "[mpi]") {
  MpiSession session;
  const auto world = session.world(cpu(), {.ranks_per_node = 1, .emulate = slow_links()});
  for (int i = 0; i < 5; ++i) world->broadcast(bytes_of_zeros(kMegabyte), 0);
  world->barrier();
}

TEST_CASE("a world that emulates links it does not describe is refused on every rank", "[mpi]") {
  MpiSession session;
  const EmulatedLinks nothing;
  if (session.size() == 1) return;
  CHECK_THROWS_WITH(session.world(cpu(), {.emulate = nothing}), Contains("describes no intra_node link"));
  CHECK_THROWS_WITH(session.world(cpu(), {.ranks_per_node = 1, .emulate = nothing}),
                    Contains("describes no inter_node link"));
}

}  // namespace shoal
