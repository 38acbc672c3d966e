// core/base/stream.h: the order in which one rank's ops run, and the account of their work.
//
// CPU: an op runs at once, in the caller's thread with OpenMP inside. kSimulated: nothing runs, only the account grows.
// One compute stream per rank; a Stream& is never defaulted.
#pragma once

#include <chrono>
#include <vector>

#include "core/base/allocator.h"
#include "core/base/tensor.h"
#include "core/base/work.h"

namespace shoal {

class Stream {
 public:
  explicit Stream(Allocator& allocator) : allocator_(allocator) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Allocator& allocator() const { return allocator_; }
  DeviceKind device() const { return allocator_.device(); }

  // Runs `cpu` (a callable without arguments) as one op that does `work`.
  template <class Cpu>
  void launch(const Work& work, Cpu&& cpu) {
    if (device() != DeviceKind::kCpu) {
      account(work, 0);
    } else if (profile_) {
      const auto begin = std::chrono::steady_clock::now();
      cpu();
      account(work, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    } else {
      cpu();
      account(work, 0);
    }
  }

  // An uninitialised activation or scratch tensor on this stream's device.
  Tensor activation(Shape shape, DType dtype) {
    return Tensor::empty(shape, dtype, allocator_, MemoryKind::kActivations);
  }
  Tensor workspace(Shape shape, DType dtype) { return Tensor::empty(shape, dtype, allocator_, MemoryKind::kWorkspace); }

  // Times every op from now on (for `bench`).
  void set_profile(bool on) { profile_ = on; }
  const WorkByOp& work() const { return work_; }
  double model_flops() const { return model_flops_; }
  void reset_work();

 private:
  void account(const Work& work, double seconds);

  Allocator& allocator_;
  WorkByOp work_;
  double model_flops_ = 0;
  bool profile_ = false;
};

// The elements of a contiguous tensor on the host: the only way contents leave a device. A simulated tensor has none,
// so the caller says what to go on with: `substitute()` returns a std::vector<T> of numel elements.
template <class T, class Substitute>
std::vector<T> read_to_host(const Tensor& tensor, Stream& stream, Substitute&& substitute) {
  if (stream.device() != DeviceKind::kSimulated) return tensor.to_vector<T>();
  std::vector<T> values = substitute();
  SHOAL_CHECK_EQ(static_cast<int64_t>(values.size()), tensor.numel());
  return values;
}

}  // namespace shoal
