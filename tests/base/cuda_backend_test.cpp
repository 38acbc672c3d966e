// tests/base/cuda_backend_test.cpp: memory, copies, events and the account of work on a CUDA device; and how a build
// without CUDA says so.
#include "core/base/cuda_backend.h"

#include <catch2/catch.hpp>

#include <numeric>

#include "core/base/out_of_memory.h"
#include "core/base/stream.h"
#include "tests/device_under_test.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

TEST_CASE("a build without CUDA says how to get one") {
  if (cuda_is_built()) return;
  CHECK(cuda_device_count() == 0);
  CHECK_THROWS_WITH(use_cuda_device(0), Contains("built without CUDA; build it with scripts/build.sh --cuda"));
  CHECK_THROWS_WITH(Allocator(DeviceKind::kCuda), Contains("built without CUDA"));
}

TEST_CASE("devices that are not there are refused", "[cuda]") {
  if (cuda_device_count() == 0) return;
  CHECK_THROWS_WITH(use_cuda_device(cuda_device_count()), Contains("there is no CUDA device"));
  CHECK_THROWS_WITH(use_cuda_device(-1), Contains("there is no CUDA device -1"));
  const CudaDevice device = describe_cuda_device(0);
  CHECK(!device.name.empty());
  CHECK(device.memory_bytes > 0);
}

TEST_CASE("tensors go to the device and back, dense and strided", "[cuda]") {
  Allocator allocator(device_under_test());
  const Tensor x = Tensor::empty({5, 7}, DType::kF32, allocator, MemoryKind::kActivations);
  std::vector<float> values(35);
  std::iota(values.begin(), values.end(), 1.0f);
  x.copy_from(values);
  CHECK(x.to_vector<float>() == values);
  CHECK(x.rows(1, 2).columns(3, 2).to_vector<float>() == std::vector<float>{11, 12, 18, 19});
  CHECK(Tensor::zeros({3, 3}, DType::kF32, allocator, MemoryKind::kActivations).to_vector<float>() ==
        std::vector<float>(9));
  const Tensor none = Tensor::empty({0, 4}, DType::kF32, allocator, MemoryKind::kActivations);
  none.copy_from(std::vector<float>());
  CHECK(none.to_vector<float>().empty());
}

TEST_CASE("memory in use is counted alike on every device", "[cuda]") {
  Allocator cpu(DeviceKind::kCpu), allocator(device_under_test());
  for (Allocator* each : {&cpu, &allocator}) {
    const Tensor kept = Tensor::empty({1000}, DType::kBF16, *each, MemoryKind::kWeights);
    { const Tensor gone = Tensor::empty({3, 333}, DType::kF64, *each, MemoryKind::kWorkspace); }
    const Tensor again = Tensor::empty({3, 333}, DType::kF64, *each, MemoryKind::kWorkspace);
  }
  CHECK(allocator.use().total_peak_bytes == cpu.use().total_peak_bytes);
  CHECK(allocator.use().total_now_bytes == 0);
}

TEST_CASE("memory that a device does not have is refused, and costs nothing else", "[cuda]") {
  Allocator allocator(device_under_test());
  const Tensor kept = Tensor::zeros({3}, DType::kF32, allocator, MemoryKind::kWeights);
  CHECK_THROWS_AS(allocator.allocate(int64_t{1} << 50, MemoryKind::kActivations), OutOfMemory);
  CHECK(Tensor::zeros({5}, DType::kF32, allocator, MemoryKind::kWeights).to_vector<float>() == std::vector<float>(5));
  CHECK(kept.to_vector<float>() == std::vector<float>(3));
}

TEST_CASE("ops that are timed have times, each once", "[cuda]") {
  Allocator allocator(device_under_test());
  Stream stream(allocator);
  stream.set_profile(true);
  const Tensor x = stream.activation({1 << 16}, DType::kF32);
  const Work work{.op = "fill", .kind = WorkKind::kMove, .bytes = static_cast<double>(x.bytes())};
  const auto fill = [&] {
    if (stream.device() == DeviceKind::kCuda) zero_rows_cuda(x.raw(), x.bytes(), x.bytes(), 1, stream.queue());
    if (stream.device() == DeviceKind::kCpu) std::fill_n(x.data<float>(), x.numel(), 0.0f);
  };
  for (int i = 0; i < 3; ++i) stream.launch(work, fill, fill);
  const double seconds = stream.work().at("fill").seconds;
  CHECK(seconds >= 0);
  CHECK(stream.work().at("fill").calls == 3);
  CHECK(stream.work().at("fill").seconds == seconds);
  stream.launch(work, fill, fill);
  stream.reset_work();
  CHECK(stream.work().empty());
}

TEST_CASE("an op without a CUDA form says so on a GPU", "[cuda]") {
  Allocator allocator(device_under_test());
  Stream stream(allocator);
  bool ran = false;
  const auto launch = [&] { stream.launch({.op = "some.op"}, [&] { ran = true; }); };
  if (stream.device() == DeviceKind::kCuda) {
    CHECK_THROWS_WITH(launch(), "some.op does not run on a GPU yet; set run.device to CPU");
  } else {
    launch();
  }
  CHECK(ran == (stream.device() == DeviceKind::kCpu));
}

TEST_CASE("a queue waits for an event of another, and events tell what is done", "[cuda]") {
  if (device_under_test() != DeviceKind::kCuda) return;
  Allocator one(DeviceKind::kCuda), other(DeviceKind::kCuda);
  const Tensor from = Tensor::empty({1000}, DType::kF32, one, MemoryKind::kActivations);
  const Tensor to = Tensor::empty({1000}, DType::kF32, other, MemoryKind::kActivations);
  from.copy_from(std::vector<float>(1000, 3.0f));
  const CudaEvent event = create_cuda_event(), later = create_cuda_event();
  zero_rows_cuda(from.raw(), from.bytes(), from.bytes(), 1, one.queue());
  record_cuda_event(event, one.queue());
  make_queue_wait(other.queue(), event);
  const RowsOfBytes all{to.raw(), to.bytes(), from.raw(), from.bytes(), from.bytes(), 1};
  copy_rows_cuda(all, other.queue(), CopyWait::kReturnsAtOnce);
  record_cuda_event(later, other.queue());
  wait_for_cuda_event(later);
  CHECK(cuda_event_done(event));
  CHECK(cuda_seconds_between(event, later) >= 0);
  CHECK(to.to_vector<float>() == std::vector<float>(1000, 0.0f));
  destroy_cuda_event(event);
  destroy_cuda_event(later);
}

}  // namespace
}  // namespace shoal
