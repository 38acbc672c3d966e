// tests/parallel/nccl_communicator_test.cpp: every verb between GPUs: NCCL on this machine's devices, its stand-in on
// one that several ranks share; what stands against NCCL, in sentences; failures.
#include "parallel/nccl_communicator.h"

#include <catch2/catch.hpp>

#include <chrono>

#include "kernels/elementwise.h"
#include "parallel/gpu_transport.h"
#include "parallel/mpi_session.h"
#include "parallel/nccl_library.h"
#include "parallel/self_communicator.h"
#include "parallel/thread_communicator.h"
#include "tests/device_under_test.h"
#include "tests/parallel/communicator_checks.h"
#include "tests/parallel/thread_nccl.h"

using Catch::Matchers::Contains;

namespace shoal {

namespace {

// Each rank a thread, with memory and queues of its own on the one device.
void run_nccl_ranks(int size, const std::function<void(NcclCommunicator& world, Allocator& gpu)>& body) {
  run_thread_ranks(size, {.ranks_per_node = 2}, [&](Communicator& threads, Allocator&) {
    Allocator gpu(DeviceKind::kCuda);
    const std::shared_ptr<Communicator> host = threads.group(all_ranks(threads));
    NcclCommunicator world(host, gpu, thread_nccl());
    const MemoryOfChecks memory(gpu);
    body(world, gpu);
  });
}

std::function<void(const Check&)> on_ranks(int size) {
  return
      [size](const Check& check) { run_nccl_ranks(size, [&](NcclCommunicator& world, Allocator&) { check(world); }); };
}

bool says_skipped(const std::string& why) {
  if (!why.empty()) WARN("skipped: " << why);
  return !why.empty();
}

}  // namespace

TEST_CASE("every verb on a group of one, on the device", "[cuda]") {
  check_every_verb([](const Check& check) {
    Allocator memory(device_under_test());
    const MemoryOfChecks of_checks(memory);
    SelfCommunicator group;
    check(group);
  });
}

TEST_CASE("every verb over threads that share the device, by way of host memory", "[cuda][threads]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  for (const int size : {1, 3}) {
    check_every_verb(
        [size](const Check& check) {
          run_thread_ranks(size, {.device = DeviceKind::kCuda}, [&](Communicator& world, Allocator& memory) {
            const MemoryOfChecks of_checks(memory);
            check(world);
          });
        },
        fmt::format(", {} ranks", size));
  }
}

TEST_CASE("every verb between ranks of the stand-in for NCCL", "[cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  for (const int size : {1, 2, 3, 4}) check_every_verb(on_ranks(size), fmt::format(", {} ranks", size));
  check_every_verb(
      [](const Check& check) { run_nccl_ranks(3, [&](NcclCommunicator& world, Allocator&) { check(world.bulk()); }); },
      ", in bulk");
  check_every_verb(
      [](const Check& check) {
        run_nccl_ranks(4, [&](NcclCommunicator& world, Allocator&) { check_in_halves(world, check); });
      },
      ", in halves");
}

TEST_CASE("groups, links, and host tensors among ranks of the stand-in for NCCL", "[cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  on_ranks(4)(check_groups_of_groups);
  on_ranks(4)(check_two_groups_at_once);
  on_ranks(4)([](Communicator& world) { check_links(world, 2); });
  run_nccl_ranks(3, [](NcclCommunicator& world, Allocator& gpu) {
    const MemoryOfChecks on_host(cpu());
    check_all_to_all_rows(world);
    check_bytes(world);
    const WireBytes before = world.bytes();
    const WireBytes moved = play(world, gpu);
    Allocator paper(DeviceKind::kCpu);
    const auto again = world.group(all_ranks(world));
    const WireBytes expected = play(*again, paper);
    RANK_CHECK(moved.total() - before.total() == expected.total());
    RANK_CHECK(again->bytes().total() == expected.total());
  });
}

// The compute queue writes what is sent, overwrites it behind the operation, and gives its memory out again: nobody
// waits on the host in between.
TEST_CASE("operations and computation follow one another on the device alone", "[cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  run_nccl_ranks(3, [](NcclCommunicator& world, Allocator& gpu) {
    Stream stream(gpu);
    constexpr int64_t kElements = 1 << 18;
    const Tensor ones = stream.activation({kElements}, DType::kF32);
    ones.copy_from(std::vector<float>(kElements, 1.0f));
    Tensor x = stream.activation({kElements}, DType::kF32);
    fill_zero(x, stream);
    float expected = 0;
    for (int round = 0; round < 20; ++round) {
      accumulate(x, ones, stream);
      Communicator& group = round % 3 == 0 ? world.bulk() : world;
      const OperationPtr sum = group.all_reduce(x);
      sum->wait();
      RANK_CHECK(sum->done());
      expected = (expected + 1) * static_cast<float>(world.size());
      // A fresh block, perhaps the one that the sum's scratch had, is filled at once.
      const Tensor noise = stream.activation({kElements * (world.size() - 1)}, DType::kF32);
      fill_zero(noise, stream);
      if (round % 4 == 3) {
        RANK_CHECK(x.to_vector<float>() == std::vector<float>(kElements, expected));
        fill_zero(x, stream);
        expected = 0;
      }
    }
    world.all_reduce(x);  // nobody waits: let go of at once
    fill_zero(x, stream);
    RANK_CHECK(x.to_vector<float>() == std::vector<float>(kElements, 0.0f));
  });
}

TEST_CASE("an operation on the device holds its tensors until somebody waits", "[cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  run_nccl_ranks(2, [](NcclCommunicator& world, Allocator& gpu) {
    const auto make = [&](int64_t n) { return Tensor::zeros({n}, DType::kF32, gpu, MemoryKind::kActivations); };
    const OperationPtr operation = world.reduce_scatter(make(1000), make(1000 * world.size()));
    RANK_CHECK(gpu.use().total_now_bytes > 0);
    operation->wait();
    RANK_CHECK(gpu.use().total_now_bytes == 0);
  });
}

TEST_CASE("a network error becomes one sentence with the rank's name", "[cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  set_thread_nccl_failure(1);
  try {
    run_nccl_ranks(3, [](NcclCommunicator& world, Allocator&) {
      const Tensor x = tensor_of(std::vector<float>(5000));
      const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (std::chrono::steady_clock::now() < give_up) wait(world.all_reduce(x));
    });
    FAIL("nobody heard of it");
  } catch (const Error& error) {
    CHECK_THAT(error.what(), Contains("failed on rank"));
    CHECK_THAT(error.what(), Contains("network error"));
  }
  set_thread_nccl_failure(-1);
}

TEST_CASE("every verb over NCCL on one GPU, which sends to itself", "[cuda]") {
  if (device_under_test() != DeviceKind::kCuda || says_skipped(why_no_nccl())) return;
  const auto run = [](const Check& check) {
    Allocator gpu(DeviceKind::kCuda);
    const MemoryOfChecks memory(gpu);
    NcclCommunicator group(std::make_shared<SelfCommunicator>(), gpu, nccl_library(), {.own_pieces_too = true});
    check(group);
  };
  check_every_verb(run);
  run([](Communicator& group) { check_all_to_all_rows(group.bulk()); });
}

TEST_CASE("every verb over NCCL, each rank on a GPU of its own", "[mpi]") {
  {
    const MpiSession session;
    const int ranks = session.local_size(), gpus = cuda_device_count();
    if (session.size() == 1) return;
    if (gpus < ranks && says_skipped(fmt::format("{} ranks on a machine with {} GPU(s)", ranks, gpus))) return;
    if (says_skipped(why_no_nccl())) return;
  }
  check_every_verb([](const Check& check) {
    MpiSession session;
    use_cuda_device(session.local_rank());
    Allocator gpu(DeviceKind::kCuda);
    const MemoryOfChecks memory(gpu);
    NcclCommunicator world(session.world(cpu()), gpu, nccl_library());
    check(world);
    check_in_halves(world, check);
    check(world.bulk());
  });
}

TEST_CASE("a library that is not there, or is none, is one sentence") {
  NcclLibrary library;
  CHECK_THAT(open_nccl("libnccl_of_nobody.so.2", library),
             Contains("NCCL could not be opened: libnccl_of_nobody.so.2") && Contains("SHOAL_NCCL"));
  CHECK_THAT(open_nccl("libm.so.6", library), Contains("'libm.so.6' is no NCCL that can send and receive"));
  CHECK(library.version == nullptr);
  if (!cuda_is_built()) CHECK(why_no_nccl() == "this program was built without CUDA");
  if (!why_no_nccl().empty()) CHECK_THROWS_WITH(nccl_library(), Contains(why_no_nccl()));
  CHECK(nccl_version(thread_nccl()) == "2.28.9");
}

TEST_CASE("NCCL is chosen where every rank has a GPU of its own, and refused in one sentence where it cannot be had") {
  const GpuRank first{.on_gpu = true, .has_nccl = true, .gpu = 1}, second{.on_gpu = true, .has_nccl = true, .gpu = 2};
  const GpuRank without{.on_gpu = true, .has_nccl = false, .gpu = 3};
  const auto choose = [](ParallelConfig::Transport wanted, const std::vector<GpuRank>& ranks, const char* why = "") {
    return choose_gpu_transport(wanted, ranks, why);
  };
  const auto refusal = [&](const std::vector<GpuRank>& ranks, const char* why = "") {
    return error_of([&] { choose(ParallelConfig::NCCL, ranks, why); });
  };
  CHECK(choose(ParallelConfig::TRANSPORT_AUTO, {first, second}).nccl);
  CHECK(choose(ParallelConfig::NCCL, {first, second}).nccl);
  CHECK_FALSE(choose(ParallelConfig::MPI, {first, second}).nccl);
  CHECK(choose(ParallelConfig::MPI, {first, second}).why == "parallel.transport is MPI");

  CHECK(choose(ParallelConfig::TRANSPORT_AUTO, {second, first, first}).why ==
        "ranks 1 and 2 share one GPU, and NCCL takes one rank a GPU");
  CHECK(refusal({second, first, first}) ==
        "parallel.transport is NCCL, but ranks 1 and 2 share one GPU, and NCCL takes one rank a GPU; start at most as "
        "many ranks as there are GPUs, or set parallel.transport to MPI");
  CHECK(refusal({first, without}) ==
        "parallel.transport is NCCL, but rank 1 has no NCCL; install libnccl.so.2 on every machine, or set "
        "parallel.transport to MPI");
  CHECK(choose(ParallelConfig::TRANSPORT_AUTO, {first, second}, "SHOAL_NCCL=none leaves NCCL out").why ==
        "SHOAL_NCCL=none leaves NCCL out");
  CHECK(refusal({first, {}}) ==
        "parallel.transport is NCCL, but rank 1 computes on the CPU; set run.device to CUDA to learn why, or set "
        "parallel.transport to MPI");
  CHECK_FALSE(choose(ParallelConfig::TRANSPORT_AUTO, {first, {}}).nccl);
}

TEST_CASE("ranks on CPUs keep the world they have; NCCL by name is refused", "[threads]") {
  run_thread_ranks(2, {}, [](Communicator& threads, Allocator& memory) {
    Allocator host(DeviceKind::kCpu);
    const auto ranks = [&] { return threads.group(all_ranks(threads)); };
    const GpuWorld connected = connect_gpus(ranks(), ParallelConfig::TRANSPORT_AUTO, memory, host);
    RANK_CHECK(connected.told.empty());
    check_all_reduce(*connected.world);
    const std::string error = error_of([&] { connect_gpus(ranks(), ParallelConfig::NCCL, memory, host); });
    RANK_CHECK(error.starts_with("parallel.transport is NCCL, but rank 0 computes on the CPU"));
  });
}

TEST_CASE("ranks that share the device are connected by way of host memory, and told so", "[cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  run_thread_ranks(2, {}, [](Communicator& threads, Allocator&) {
    Allocator gpu(DeviceKind::kCuda), host(DeviceKind::kCpu);
    const auto ranks = [&] { return threads.group(all_ranks(threads)); };
    const GpuWorld connected = connect_gpus(ranks(), ParallelConfig::TRANSPORT_AUTO, gpu, host);
    RANK_CHECK(connected.told ==
               "messages between GPUs go by way of host memory and MPI: ranks 0 and 1 share one GPU, and NCCL takes "
               "one rank a GPU");
    const MemoryOfChecks memory(gpu);
    check_all_reduce(*connected.world);
    RANK_CHECK(error_of([&] { connect_gpus(ranks(), ParallelConfig::NCCL, gpu, host); }).find("share one GPU") !=
               std::string::npos);
  });
}

}  // namespace shoal
