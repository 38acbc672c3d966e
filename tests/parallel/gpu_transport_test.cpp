// tests/parallel/gpu_transport_test.cpp: which way messages between GPUs go, and what stands against NCCL.
#include "parallel/gpu_transport.h"

#include <catch2/catch.hpp>

#include "parallel/nccl_library.h"
#include "parallel/thread_communicator.h"
#include "tests/device_under_test.h"
#include "tests/parallel/communicator_checks.h"
#include "tests/parallel/thread_nccl.h"

using Catch::Matchers::Contains;

namespace shoal {

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
