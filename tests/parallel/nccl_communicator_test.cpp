// tests/parallel/nccl_communicator_test.cpp: every verb between GPUs: NCCL on this machine's devices, its stand-in on
// one that several ranks share; failures.
#include "parallel/nccl_communicator.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>

#include "kernels/elementwise.h"
#include "parallel/gradient_buckets.h"
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

TEST_CASE("every verb between ranks of the stand-in for NCCL on emulated links", "[cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  const EmulatedLinks links{.intra_node = LinkSpeed{.bytes_per_s = 2e10, .latency_s = 3e-6},
                            .inter_node = LinkSpeed{.bytes_per_s = 5e9, .latency_s = 2e-5},
                            .jitter = 3};
  check_every_verb([&](const Check& check) {
    run_nccl_ranks(
        4,
        [&](NcclCommunicator& world, Allocator&) {
          check_in_halves(world, check);
          check(world);
        },
        links);
  });
}

TEST_CASE("on emulated links the device's queues wait, and no message is sooner than it may be", "[cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  const LinkSpeed speed{.bytes_per_s = 1e7, .latency_s = 0.01};
  const auto body = [](NcclCommunicator& world, Allocator& gpu) {
    Tracer tracer(gpu.queue());
    for (Communicator* const group : {static_cast<Communicator*>(&world), &world.bulk()}) {
      tracer.start();
      const Tensor x = tensor_of(std::vector<float>(100'000, 1.0f));  // 40 ms
      // Before the barrier: a peer may be the first to leave it, and post.
      const int64_t begin_ns = steady_ns();
      wait(world.barrier());
      const OperationPtr operation = group->all_gather(tensor_of(std::vector<float>(200'000)), x);
      operation->wait();
      const Tensor y = tensor_of(std::vector<float>(1));
      copy_elements(y, x.rows(0, 1));  // behind it
      RANK_CHECK(y.to_vector<float>()[0] == 1.0f);
      RANK_CHECK(steady_ns() - begin_ns >= 50'000'000);
      tracer.wire(WireKind::kWeights, operation->span(), 0);
      const std::vector<TraceRecord> records = tracer.take();
      RANK_CHECK(records.size() == 1);
      const int64_t grain_ns = tracer.clock_error_ns() + 2000;
      RANK_CHECK(records[0].begin_ns >= begin_ns - grain_ns && records[0].end_ns - begin_ns >= 50'000'000 - grain_ns);
      RANK_CHECK(records[0].end_ns <= steady_ns() + grain_ns);
      RANK_CHECK(records[0].bytes == 400'000 && records[0].group != world.id());
    }
  };
  run_nccl_ranks(2, body, EmulatedLinks{.intra_node = speed});
}

TEST_CASE("every operation of both wires has its time, its bytes and its number for a timeline", "[cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  run_nccl_ranks(2, [](NcclCommunicator& world, Allocator& gpu) {
    Stream stream(gpu);
    Tracer tracer(gpu.queue());
    tracer.start();
    stream.set_trace(&tracer);
    Lane lane(stream, 0);
    const auto walk = [](NcclCommunicator& ranks, Lane& here) -> Task<void> {
      for (int i = 0; i < 3; ++i) {
        OperationPtr gathered =
            ranks.all_gather(tensor_of(std::vector<float>(200)), tensor_of(std::vector<float>(100)));
        co_await here.wire(std::move(gathered), WireKind::kTensor);
        OperationPtr reduced = ranks.bulk().all_reduce(tensor_of(std::vector<float>(1 << 16)));
        co_await here.wire(std::move(reduced), WireKind::kGradients);
      }
    };
    run_lane(lane, walk(world, lane));
    const std::vector<TraceRecord> records = tracer.take();
    stream.set_trace(nullptr);
    for (const WireKind kind : {WireKind::kTensor, WireKind::kGradients}) {
      std::vector<TraceRecord> wires;
      for (const TraceRecord& record : records) {
        if (record.track == TraceTrack::kWire && record.kind == static_cast<uint8_t>(kind)) wires.push_back(record);
      }
      RANK_CHECK(wires.size() == 3);
      for (size_t i = 0; i < wires.size(); ++i) {
        RANK_CHECK(wires[i].end_ns > wires[i].begin_ns);
        RANK_CHECK(wires[i].bytes == (kind == WireKind::kTensor ? 400 : 1 << 18));
        RANK_CHECK(wires[i].group == wires[0].group);
        RANK_CHECK(wires[i].lane == 0);
        // One after the other, on a queue.
        if (i > 0) RANK_CHECK(wires[i].tag > wires[i - 1].tag && wires[i].begin_ns >= wires[i - 1].end_ns - 2000);
      }
    }
    const auto waits = std::ranges::count(records, TraceTrack::kWait, &TraceRecord::track);
    RANK_CHECK(waits == 6);
  });
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
    const bool may_share = gpus > 0 && std::getenv("NCCL_HOSTID") != nullptr;  // as scripts/gpu_check.sh sets it
    if (gpus < ranks && !may_share && says_skipped(fmt::format("{} ranks on a machine with {} GPU(s)", ranks, gpus))) {
      return;
    }
    if (says_skipped(why_no_nccl())) return;
  }
  check_every_verb([](const Check& check) {
    MpiSession session;
    use_cuda_device(session.local_rank() % cuda_device_count());
    Allocator gpu(DeviceKind::kCuda);
    const MemoryOfChecks memory(gpu);
    NcclCommunicator world(session.world(cpu()), gpu, nccl_library());
    check(world);
    check_in_halves(world, check);
    check(world.bulk());
  });
}

namespace {

// Two rounds of gradients of a small model with a tied table, in buckets; what a rank has at the end, as bytes.
std::vector<std::vector<std::byte>> train_buckets(Communicator& group, Allocator& memory, GradientWire::Format wire) {
  Stream stream(memory);
  Lane lane(stream, 0);
  ParameterStore store;
  store.add(
      {.name = "table", .shape = {33, 10}, .use = ParameterUse::kPlainAndMatrix, .init_std = 0.02, .num_uses = 2});
  store.add({.name = "norm", .shape = {10}, .use = ParameterUse::kPlain, .decay = false});
  store.add({.name = "matrix", .shape = {40, 30}, .init_std = 0.02});
  const auto experts = group.group(all_ranks(group));
  GradientBuckets buckets(store, {group, group, *experts}, DType::kBF16, 700 * 4, true, memory, wire);
  buckets.initialize(1, stream);
  for (int round = 0; round < 2; ++round) {
    buckets.begin_step(stream);
    for (Parameter& parameter : store.parameters()) {
      for (int use = 0; use < parameter.spec().num_uses; ++use) {
        parameter.next_grad_write(use);
        parameter.grad(use).copy_from(
            values_of<float>(group.rank(), parameter.grad(use).numel(), parameter.spec().name + "grad"));
      }
    }
    for (Bucket& bucket : buckets.buckets()) buckets.post_reduction(bucket, stream);
    for (Bucket& bucket : buckets.buckets()) {
      if (bucket.reduction != nullptr) bucket.reduction->wait();
      cast(bucket.weight_shard(), bucket.grad_shard(), stream);  // as if it were the optimizer's step
      buckets.post_gather(bucket);
    }
    for (Parameter& parameter : store.parameters()) run_lane(lane, parameter.ready(lane));
  }
  std::vector<std::vector<std::byte>> result;
  for (const Bucket& bucket : buckets.buckets()) {
    result.push_back(bucket.grad_shard().to_bytes());
    result.push_back(bucket.weights.to_bytes());
  }
  return result;
}

}  // namespace

TEST_CASE("gradients and weights have the bits that the host's ranks give them", "[cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  for (const GradientWire::Format wire : {GradientWire::F32, GradientWire::BF16, GradientWire::INT8}) {
    std::array<std::vector<std::vector<std::byte>>, 3> on_host;
    run_thread_ranks(3, {.ranks_per_node = 2}, [&](Communicator& world, Allocator& memory) {
      on_host[static_cast<size_t>(world.rank())] = train_buckets(world, memory, wire);
    });
    run_nccl_ranks(3, [&](NcclCommunicator& world, Allocator& gpu) {
      RANK_CHECK(train_buckets(world, gpu, wire) == on_host[static_cast<size_t>(world.rank())]);
      RANK_CHECK(world.bulk().bytes().total() > 0);
    });
  }
}

}  // namespace shoal
