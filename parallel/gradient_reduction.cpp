// parallel/gradient_reduction.cpp: an all-to-all of encoded pieces, and sums that wait for what they add.
#include "parallel/gradient_reduction.h"

#include <algorithm>
#include <utility>

#include "kernels/elementwise.h"
#include "kernels/gradient_wire.h"

namespace shoal {

namespace {

// Operations, and work on their results that is done once, when they are all complete.
class ThenOnce : public Operation {
 public:
  explicit ThenOnce(std::vector<OperationPtr> parts) : parts_(std::move(parts)) {}

  bool done() override {
    if (!std::ranges::all_of(parts_, [](const OperationPtr& part) { return part->done(); })) return false;
    finish();
    return true;
  }
  void wait() override {
    finish();
    if (error_) std::rethrow_exception(error_);
  }
  // From the first that was posted to the last that was complete, as the first of them.
  WireSpan span() const override {
    WireSpan whole;
    for (const OperationPtr& part : parts_) {
      const WireSpan span = part->span();
      if (!span.is_known()) continue;
      if (!whole.is_known()) {
        whole = span;
        continue;
      }
      whole.end = span.end;  // of one queue: in order
      whole.posted_ns = std::min(whole.posted_ns, span.posted_ns);
      whole.completed_ns = std::max(whole.completed_ns, span.completed_ns);
      whole.bytes += span.bytes;
      whole.sent_to |= span.sent_to;
    }
    return whole;
  }

 protected:
  virtual void complete() = 0;
  // Lets go of the tensors, whether complete() ran or something went wrong on the wire.
  virtual void release() = 0;

 private:
  void finish() {
    if (finished_) return;
    finished_ = true;
    try {
      for (const OperationPtr& part : parts_) part->wait();
      complete();
    } catch (...) {
      error_ = std::current_exception();
    }
    release();
  }

  std::vector<OperationPtr> parts_;
  bool finished_ = false;
  std::exception_ptr error_;
};

class ReductionOfUses : public ThenOnce {
 public:
  ReductionOfUses(std::vector<OperationPtr> parts, std::vector<Tensor> shards, Stream& stream)
      : ThenOnce(std::move(parts)), shards_(std::move(shards)), stream_(stream) {}

 private:
  void complete() override {
    for (size_t use = 1; use < shards_.size(); ++use) accumulate(shards_[0], shards_[use], stream_);
  }
  void release() override { shards_.clear(); }

  std::vector<Tensor> shards_;
  Stream& stream_;
};

struct SumOperands {
  Tensor out, onto, own, arrived;
  int own_rank = 0;
  GradientCode code = GradientCode::kBF16;
};

class EncodedReduction : public ThenOnce {
 public:
  EncodedReduction(OperationPtr arriving, SumOperands operands, Stream& stream)
      : ThenOnce({std::move(arriving)}), operands_(std::move(operands)), stream_(stream) {}

 private:
  void complete() override {
    const SumOperands& o = operands_;
    sum_gradients(o.out, o.onto, o.own, o.own_rank, o.arrived, o.code, stream_);
  }
  void release() override { operands_ = {}; }

  SumOperands operands_;
  Stream& stream_;
};

GradientCode code_of(GradientWire::Format wire) {
  switch (wire) {
    case GradientWire::BF16: return GradientCode::kBF16;
    case GradientWire::FP8: return GradientCode::kFP8;
    case GradientWire::INT8: return GradientCode::kInt8;
    default: fail("gradients are not encoded as {}", GradientWire::Format_Name(wire));
  }
}

}  // namespace

OperationPtr reduce_encoded(Communicator& group, const Tensor& out, const Tensor& in, const Tensor& onto,
                            const Tensor& residual, GradientWire::Format wire, Stream& stream) {
  const GradientCode code = code_of(wire);
  const int64_t piece = out.numel(), others = (group.size() - 1) * piece, begin = group.rank() * piece;
  SHOAL_CHECK(in.numel() == piece * group.size(), "{} does not fall into {} pieces of {}", in.shape(), group.size(),
              out.shape());
  const Tensor encoded = empty_encoded_gradients(code, others, stream);
  // The pieces in front of this rank's own, and those behind it.
  const auto encode = [&](int64_t from, int64_t to, int64_t count) {
    Tensor feedback;
    if (residual.defined()) feedback = residual.rows(to, count);
    if (count == 0) return;
    encode_gradients(encoded.rows(to / kGradientBlock, count / kGradientBlock), in.rows(from, count), feedback, code,
                     stream);
  };
  encode(0, 0, begin);
  encode(begin + piece, begin, others - begin);

  SumOperands operands{.out = out,
                       .onto = onto,
                       .own = in.rows(begin, piece),
                       .arrived = empty_encoded_gradients(code, others, stream),
                       .own_rank = group.rank(),
                       .code = code};
  std::vector<int64_t> rows(static_cast<size_t>(group.size()), piece / kGradientBlock);
  rows[static_cast<size_t>(group.rank())] = 0;
  OperationPtr arriving = group.all_to_all_rows(operands.arrived, rows, encoded, rows);
  return std::make_shared<EncodedReduction>(std::move(arriving), std::move(operands), stream);
}

OperationPtr reduction_of_uses(std::vector<OperationPtr> parts, std::vector<Tensor> shards, Stream& stream) {
  return std::make_shared<ReductionOfUses>(std::move(parts), std::move(shards), stream);
}

}  // namespace shoal
