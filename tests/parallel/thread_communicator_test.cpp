// tests/parallel/thread_communicator_test.cpp: every verb over threads, whole and in groups; failures that all hear of.
#include "parallel/thread_communicator.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <chrono>
#include <thread>

#include "parallel/peer_failed.h"
#include "parallel/simulated_communicator.h"
#include "tests/parallel/communicator_checks.h"
#include "tests/parallel/different_calls.h"

using Catch::Matchers::Contains;

namespace shoal {

TEST_CASE("every verb over threads", "[threads]") {
  for (const int size : {1, 2, 3, 4, 8}) {
    check_every_verb(
        [size](const Check& check) {
          run_thread_ranks(size, {.ranks_per_node = 2}, [&](Communicator& world, Allocator&) { check(world); });
        },
        fmt::format(", {} ranks", size));
  }
}

TEST_CASE("every verb over threads with messages cut into parts of 1001 bytes", "[threads]") {
  check_every_verb([](const Check& check) {
    run_thread_ranks(3, {.max_message_bytes = 1001}, [&](Communicator& world, Allocator&) { check(world); });
  });
}

TEST_CASE("every verb in halves of the threads, the other half busy meanwhile", "[threads]") {
  for (const int size : {2, 5}) {
    check_every_verb(
        [size](const Check& check) {
          run_thread_ranks(size, {.ranks_per_node = 2},
                           [&](Communicator& world, Allocator&) { check_in_halves(world, check); });
        },
        fmt::format(", {} ranks", size));
  }
}

TEST_CASE("groups, links and two groups at once over threads", "[threads]") {
  for (const int size : {1, 2, 3, 4, 8}) {
    const auto run = [&](ThreadRanksOptions options, const Check& check) {
      run_thread_ranks(size, options, [&](Communicator& world, Allocator&) { check(world); });
    };
    DYNAMIC_SECTION("groups of groups, " << size << " ranks") { run({.ranks_per_node = 3}, check_groups_of_groups); }
    DYNAMIC_SECTION("two groups at once, " << size << " ranks") { run({}, check_two_groups_at_once); }
    DYNAMIC_SECTION("links, " << size << " ranks") {
      run({}, [&](Communicator& world) { check_links(world, size); });
      for (const int n : {1, 2, 3}) run({.ranks_per_node = n}, [&](Communicator& world) { check_links(world, n); });
    }
  }
}

TEST_CASE("threads have their own memory, and nothing of it is in use after an operation", "[threads]") {
  run_thread_ranks(3, {}, [](Communicator& world, Allocator& allocator) {
    const auto make = [&](int64_t n) { return Tensor::zeros({n}, DType::kF32, allocator, MemoryKind::kActivations); };
    const auto operation = world.reduce_scatter(make(1000), make(1000 * world.size()));
    operation->wait();
    RANK_CHECK(allocator.use().total_now_bytes == 0);
    RANK_CHECK(allocator.use().peak_bytes[static_cast<size_t>(MemoryKind::kWorkspace)] == 8000);
  });
}

TEST_CASE("threads that leave before their operations are complete leave them to the others", "[threads]") {
  for (int late = 0; late < 4; ++late) {
    run_thread_ranks(4, {}, [&](Communicator& world, Allocator&) {
      const Tensor x = tensor_of(values_of<float>(world.rank(), 20011, "all"));
      if (world.rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      const OperationPtr kept = world.all_reduce(x);
      for (int i = 0; i < 10; ++i) world.broadcast(tensor_of(std::vector<float>(3000)), 0);
      if (world.rank() != late) return;
      wait(kept);
      RANK_CHECK(same_bits(x.to_vector<float>(), sum_of_ranks<float>(world.size(), 0, 20011, "all")));
    });
  }
}

TEST_CASE("a thread that fails ends what the others wait for with an error that names it", "[threads]") {
  for (const int failing : {0, 2, 3}) {
    std::atomic<int> num_told = 0;
    const auto body = [&](Communicator& world, Allocator&) {
      const Tensor x = tensor_of(std::vector<float>(10000));
      wait(world.all_reduce(x));
      const auto pair = world.group({world.rank() & ~1, world.rank() | 1});
      const Tensor y = tensor_of(std::vector<float>(10000));  // two operations in flight share no tensor
      const OperationPtr before = pair->broadcast(y, 0);
      if (world.rank() == failing) fail("token 9 is beyond the vocabulary");
      const auto told = [&](const std::string& error) {
        if (error == fmt::format("rank {} failed: token 9 is beyond the vocabulary", failing)) ++num_told;
      };
      const OperationPtr after = world.all_reduce(x);
      told(error_of([&] { after->wait(); }));
      RANK_CHECK(after->done());
      bool is_peers = false;
      try {
        after->wait();
      } catch (const PeerFailed&) {
        is_peers = true;
      }
      RANK_CHECK(is_peers);
      told(error_of([&] { pair->barrier()->wait(); }));
      told(error_of([&] { world.group({world.rank()}); }));
      world.barrier()->wait();
    };
    REQUIRE_THROWS_WITH(run_thread_ranks(4, {}, body), Catch::Equals("token 9 is beyond the vocabulary"));
    REQUIRE(num_told == 9);
  }
}

namespace {

// Two transfers, with something that may go wrong in between.
Task<void> two_sums(Communicator& world, Tensor x, bool fails, Lane& lane) {
  const OperationPtr first = world.all_reduce(x);
  co_await lane.wire(first, WireKind::kOther);
  if (fails) fail("a lane is lost");
  const OperationPtr second = world.all_reduce(x);
  co_await lane.wire(second, WireKind::kOther);
}

}  // namespace

TEST_CASE("a lane that fails while its neighbour waits: every lane of the other ranks gets PeerFailed", "[threads]") {
  for (const int failing_lane : {0, 1}) {
    std::atomic<int> num_peers = 0;
    const auto body = [&](Communicator& world, Allocator& allocator) {
      Stream stream(allocator);
      Lane a(stream, 0), b(stream, 1);
      Lane* const lanes[] = {&a, &b};
      std::vector<Task<void>> tasks;
      for (int lane = 0; lane < 2; ++lane) {
        const bool fails = world.rank() == 1 && lane == failing_lane;
        tasks.push_back(two_sums(world, tensor_of(std::vector<float>(10000)), fails, *lanes[lane]));
      }
      try {
        run_lanes(lanes, std::move(tasks));
      } catch (const PeerFailed&) {
        ++num_peers;
        throw;
      }
    };
    REQUIRE_THROWS_WITH(run_thread_ranks(3, {}, body), Catch::Equals("a lane is lost"));
    REQUIRE(num_peers == 2);
  }
}

TEST_CASE("a thread that ends early ends what the others wait for with an error that names it", "[threads]") {
  const auto run = [](const std::function<void(Communicator&)>& body) {
    run_thread_ranks(3, {}, [&](Communicator& world, Allocator&) {
      wait(world.barrier());
      if (world.rank() != 1) body(world);
    });
  };
  REQUIRE_THROWS_WITH(run([](Communicator& world) { wait(world.barrier()); }),
                      Contains("rank 1 ended without posting what rank"));
  REQUIRE_THROWS_WITH(run([](Communicator& world) { wait(world.all_reduce(tensor_of(std::vector<float>(9000)))); }),
                      Contains("rank 1 ended without posting what rank"));
  REQUIRE_THROWS_WITH(run([](Communicator& world) { world.group({world.rank()}); }),
                      Contains("rank 1 ended without making the group that rank"));
  // Nobody waits, or who waits catches it: a job that lost a message does not pass.
  REQUIRE_THROWS_WITH(run([](Communicator& world) { world.barrier(); }), Contains("rank 1 ended without posting"));
  REQUIRE_THROWS_WITH(
      run([](Communicator& world) {
        RANK_CHECK(error_of([&] { wait(world.barrier()); }).starts_with("rank 1 ended without posting"));
      }),
      Contains("rank 1 ended without posting"));
}

TEST_CASE("threads that disagree on a size or on a group get an error where they wait", "[threads]") {
  REQUIRE_THROWS_WITH(
      run_thread_ranks(3, {},
                       [](Communicator& world, Allocator&) {
                         wait(world.broadcast(tensor_of(std::vector<float>(world.rank() == 0 ? 100 : 50)), 0));
                       }),
      Contains("broadcast of 100 f32 from rank 0") && Contains("broadcast of 50 f32 from rank 0") &&
          Contains("of group 'world'"));
  REQUIRE_THROWS_WITH(run_thread_ranks(3, {},
                                       [](Communicator& world, Allocator&) {
                                         world.group(world.rank() == 0 ? std::vector{0, 1} : std::vector{1, 2});
                                       }),
                      Contains("ranks of one group must name the same ranks: rank 0 names 0, 1, rank 1 names 1, 2"));
  REQUIRE_THROWS_WITH(run_thread_ranks(0, {}, [](Communicator&, Allocator&) {}), Contains("0 ranks"));
}

TEST_CASE("threads that make different calls get an error that names both", "[threads]") {
  for (const DifferentCalls& calls : all_different_calls()) {
    INFO(calls.how);
    std::string message;
    try {
      run_thread_ranks(3, {},
                       [&](Communicator& world, Allocator& memory) { run_different_calls(calls.how, world, memory); });
    } catch (const Error& error) {
      message = error.what();
    }
    for (const std::string& words : calls.words) CHECK_THAT(message, Contains(words));
  }
}

TEST_CASE("threads that send and are not expected to, or the other way round, get an error", "[threads]") {
  for (const int64_t sent : {0, 3}) {
    REQUIRE_THROWS_WITH(
        run_thread_ranks(2, {},
                         [&](Communicator& world, Allocator&) {
                           const bool sends = world.rank() == 0;
                           const int64_t in = sends ? sent : 0, out = sends ? 0 : 3 - sent;
                           std::vector<int64_t> in_rows(2), out_rows(2);
                           in_rows[static_cast<size_t>(1 - world.rank())] = in;
                           out_rows[static_cast<size_t>(1 - world.rank())] = out;
                           wait(world.all_to_all_rows(
                               tensor_of<float>({out, 1}, std::vector<float>(static_cast<size_t>(out))), out_rows,
                               tensor_of<float>({in, 1}, std::vector<float>(static_cast<size_t>(in))), in_rows));
                         }),
        Contains("rank 0 sends " + std::to_string(4 * sent) + " bytes to rank 1, which expects " +
                 std::to_string(4 * (3 - sent))));
  }
}

TEST_CASE("threads of simulated tensors count as real ones, and as a rank on paper", "[threads]") {
  std::vector<WireBytes> real(5);
  std::vector<WireBytes> counted(5);
  for (const auto& [device, result] : {std::pair{DeviceKind::kCpu, &real}, {DeviceKind::kSimulated, &counted}}) {
    run_thread_ranks(5, {.ranks_per_node = 2, .device = device}, [&](Communicator& world, Allocator& allocator) {
      RANK_CHECK(allocator.device() == device);
      wait(world.barrier());
      (*result)[static_cast<size_t>(world.rank())] = play(world, allocator);
    });
  }
  Allocator simulated(DeviceKind::kSimulated);
  for (int rank = 0; rank < 5; ++rank) {
    SimulatedCommunicator paper(rank, {0, 0, 1, 1, 2}, simulated);
    const WireBytes on_paper = play(paper, simulated);
    for (const WireBytes& other : {real[static_cast<size_t>(rank)], counted[static_cast<size_t>(rank)]}) {
      REQUIRE(on_paper.payload == other.payload);
      REQUIRE(on_paper.metadata == other.metadata);
    }
  }
}

}  // namespace shoal
