// core/base/stream.h: the order in which one rank's ops run, and the account of their work.
//
// CPU: an op runs at once, in the caller's thread with OpenMP inside. CUDA: an op is put behind those before it on the
// rank's compute queue, and the host goes on. kSimulated: nothing runs, only the account grows, and a clock where there
// is one. One compute stream per rank; a Stream& is never defaulted.
#pragma once

#include <vector>

#include "core/base/allocator.h"
#include "core/base/nvtx.h"
#include "core/base/tensor.h"
#include "core/base/time_account.h"
#include "core/base/work.h"

namespace shoal {

class Stream {
 public:
  explicit Stream(Allocator& allocator) : allocator_(allocator), times_(allocator.device(), allocator.queue()) {}
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Allocator& allocator() const { return allocator_; }
  DeviceKind device() const { return allocator_.device(); }
  DeviceKind imitates() const { return allocator_.imitates(); }
  // Null but on kCuda.
  CudaQueue queue() const { return allocator_.queue(); }

  // Runs `cpu`, or `cuda`, which puts its kernels on queue() (callables without arguments), as one op that does `work`.
  // The ops of kernels/ go through kernels/launch.h.
  template <class Cpu, class Cuda>
  void launch(const Work& work, Cpu&& cpu, Cuda&& cuda) {
    RunningOp op(*this, work);
    if (device() == DeviceKind::kCpu) cpu();
    if (device() == DeviceKind::kCuda) cuda();
    op.end();
  }
  // An op that has no CUDA form.
  template <class Cpu>
  void launch(const Work& work, Cpu&& cpu) {
    launch(work, cpu, [&] { fail_without_cuda(work); });
  }

  // Blocks until everything so far is done.
  void wait() {
    if (device() != DeviceKind::kCuda) return;
    times_.begin_host_read();
    wait_for_cuda_queue(queue());
  }

  // An uninitialised activation or scratch tensor on this stream's device.
  Tensor activation(Shape shape, DType dtype) {
    return Tensor::empty(shape, dtype, allocator_, MemoryKind::kActivations);
  }
  Tensor workspace(Shape shape, DType dtype) { return Tensor::empty(shape, dtype, allocator_, MemoryKind::kWorkspace); }

  // Times every op from now on (for `bench`).
  void set_profile(bool on) { profile_ = on; }
  // Of all ops so far; waits for those that are timed.
  const WorkByOp& work();
  // Of those that were timed.
  const WorkBySize& timed_work();
  double model_flops() const { return model_flops_; }
  void reset_work();

  // Where this rank's time goes, ops and waits: whoever waits for the wire notes it there.
  TimeAccount& times() { return times_; }
  // Every op and wait from now on is recorded there too (trace.h), until it is null again; null costs nothing.
  void set_trace(Tracer* trace) { times_.set_trace(trace); }
  Tracer* trace() const { return times_.trace(); }

  // On kSimulated: every op from now on advances `clock`, which must outlive the stream's last op; null: none.
  void set_clock(SimulatedClock* clock);

 private:
  // An op from its begin to its end, or to the exception that leaves it: then nothing is accounted and nothing stays
  // open.
  class RunningOp {
   public:
    RunningOp(Stream& stream, const Work& work)
        : stream_(stream), work_(work), range_(work.op), begin_ns_(stream.begin_op(work)) {}
    ~RunningOp() {
      if (!ended_) stream_.abandon_op();
    }
    RunningOp(const RunningOp&) = delete;
    RunningOp& operator=(const RunningOp&) = delete;
    void end() {
      stream_.end_op(work_, begin_ns_);
      ended_ = true;
    }

   private:
    Stream& stream_;
    const Work& work_;
    NvtxRange range_;
    int64_t begin_ns_;
    bool ended_ = false;
  };
  struct TimedOp {
    Work work;
    CudaEvent begin = nullptr, end = nullptr;
  };

  int64_t begin_op(const Work& work);  // the time, on a CPU
  void end_op(const Work& work, int64_t begin_ns);
  void abandon_op() noexcept;
  void add_timed(const Work& work, double seconds);
  [[noreturn]] static void fail_without_cuda(const Work& work);

  Allocator& allocator_;
  WorkByOp work_;
  double model_flops_ = 0;
  bool profile_ = false;
  std::vector<TimedOp> timed_;  // on a GPU: not read yet
  WorkBySize timed_work_;
  TimeAccount times_;
  SimulatedClock* clock_ = nullptr;  // on kSimulated
};

// The elements of a contiguous tensor on the host: the only way contents leave a device. A simulated tensor has none,
// so the caller says what to go on with: `substitute()` returns a std::vector<T> of numel elements.
template <class T, class Substitute>
std::vector<T> read_to_host(const Tensor& tensor, Stream& stream, Substitute&& substitute) {
  if (stream.device() == DeviceKind::kCuda) stream.times().begin_host_read();
  if (stream.device() != DeviceKind::kSimulated) return tensor.to_vector<T>();
  std::vector<T> values = substitute();
  SHOAL_CHECK_EQ(static_cast<int64_t>(values.size()), tensor.numel());
  return values;
}

}  // namespace shoal
