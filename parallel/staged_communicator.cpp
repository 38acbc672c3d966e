// parallel/staged_communicator.cpp: down, across, up.
#include "parallel/staged_communicator.h"

#include <exception>

namespace shoal {

namespace {

// Copies what arrived to the device, once, in the thread that asks.
class StagedOperation final : public Operation {
 public:
  StagedOperation(OperationPtr across, Tensor device, Tensor host)
      : across_(std::move(across)), device_(std::move(device)), host_(std::move(host)) {}

  bool done() override {
    if (!across_->done()) return false;
    finish();
    return true;
  }
  void wait() override {
    finish();
    if (error_) std::rethrow_exception(error_);
  }
  WireSpan span() const override { return across_->span(); }

 private:
  // An error is kept for whoever waits.
  void finish() {
    if (finished_) return;
    finished_ = true;
    try {
      across_->wait();
      copy_elements(device_, host_);
    } catch (...) {
      error_ = std::current_exception();
    }
    device_ = host_ = Tensor();
  }

  OperationPtr across_;
  Tensor device_, host_;
  std::exception_ptr error_;
  bool finished_ = false;
};

bool is_staged(const Tensor& x) { return x.device() == DeviceKind::kCuda; }

}  // namespace

StagedCommunicator::StagedCommunicator(std::shared_ptr<Communicator> inner, Allocator& host)
    : inner_(std::move(inner)), host_(host) {}

Tensor StagedCommunicator::empty_like(const Tensor& x) const {
  return Tensor::empty(x.shape(), x.dtype(), host_, MemoryKind::kWorkspace);
}

Tensor StagedCommunicator::on_host(const Tensor& x) const {
  if (!x.defined()) return {};
  const Tensor copy = empty_like(x);
  copy_elements(copy, x);
  return copy;
}

OperationPtr StagedCommunicator::all_to_all_rows(Tensor out, std::vector<int64_t> out_rows, Tensor in,
                                                 std::vector<int64_t> in_rows) {
  if (!is_staged(in)) return inner_->all_to_all_rows(out, std::move(out_rows), in, std::move(in_rows));
  const Tensor arrived = empty_like(out);
  return std::make_shared<StagedOperation>(
      inner_->all_to_all_rows(arrived, std::move(out_rows), on_host(in), std::move(in_rows)), out, arrived);
}

OperationPtr StagedCommunicator::all_gather(Tensor out, Tensor piece) {
  if (!is_staged(out)) return inner_->all_gather(out, piece);
  const Tensor arrived = empty_like(out);
  return std::make_shared<StagedOperation>(inner_->all_gather(arrived, on_host(piece)), out, arrived);
}

OperationPtr StagedCommunicator::all_gather_rows(Tensor out, std::vector<int64_t> rows, Tensor piece) {
  if (!is_staged(out)) return inner_->all_gather_rows(out, std::move(rows), piece);
  const Tensor arrived = empty_like(out);
  return std::make_shared<StagedOperation>(inner_->all_gather_rows(arrived, std::move(rows), on_host(piece)), out,
                                           arrived);
}

OperationPtr StagedCommunicator::reduce_scatter(Tensor out, Tensor in, Tensor onto) {
  if (!is_staged(in)) return inner_->reduce_scatter(out, in, onto);
  const Tensor sum = empty_like(out);
  return std::make_shared<StagedOperation>(inner_->reduce_scatter(sum, on_host(in), on_host(onto)), out, sum);
}

OperationPtr StagedCommunicator::reduce_scatter_rows(Tensor out, Tensor in, std::vector<int64_t> rows) {
  if (!is_staged(in)) return inner_->reduce_scatter_rows(out, in, std::move(rows));
  const Tensor sum = empty_like(out);
  return std::make_shared<StagedOperation>(inner_->reduce_scatter_rows(sum, on_host(in), std::move(rows)), out, sum);
}

OperationPtr StagedCommunicator::all_reduce(Tensor x) {
  if (!is_staged(x)) return inner_->all_reduce(x);
  const Tensor sum = on_host(x);
  return std::make_shared<StagedOperation>(inner_->all_reduce(sum), x, sum);
}

OperationPtr StagedCommunicator::broadcast(Tensor x, int root) {
  if (!is_staged(x)) return inner_->broadcast(x, root);
  const Tensor copy = rank() == root ? on_host(x) : empty_like(x);
  return std::make_shared<StagedOperation>(inner_->broadcast(copy, root), x, copy);
}

OperationPtr StagedCommunicator::barrier() { return inner_->barrier(); }

std::unique_ptr<Communicator> StagedCommunicator::group(const std::vector<int>& ranks) {
  return std::make_unique<StagedCommunicator>(inner_->group(ranks), host_);
}

}  // namespace shoal
