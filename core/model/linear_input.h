// core/model/linear_input.h: the input of linears as they read it, and what of it is kept for backward.
//
//                 read by forward              kept                           read by backward
//   plain         x, gathered                  this rank's rows of x          x, gathered again
//   FP8           rows (1 × 128), gathered     columns (128 × 1), all rows    the same columns
//
// FP8: both forms come from one read of x, so the kept one is not a rounding of the other, and needs no second gather.
#pragma once

#include <optional>

#include "core/base/lane.h"
#include "core/model/linear_format.h"
#include "parallel/tensor_parallel.h"

namespace shoal {

// What a linear reads: x [rows, in] alone, or (FP8) its quantised forms.
struct LinearInput {
  Tensor x;
  QuantizedRows rows;        // what forward reads
  QuantizedColumns columns;  // what the weight's gradient reads
};

// Between forward and backward.
struct KeptInput {
  Tensor mine;               // [mine, in] this rank's rows, not read yet or plain
  QuantizedRows rows;        // FP8: only where forward is to be computed again
  QuantizedColumns columns;  // FP8

  bool defined() const { return mine.defined() || columns.defined(); }
};

// How the linears of one part read an input.
class InputReader {
 public:
  explicit InputReader(LinearFormat format) : format_(std::move(format)) {}  // this rank's rows alone
  InputReader(LinearFormat format, TensorParallel tensor) : format_(std::move(format)), tensor_(tensor) {}

  // What linears read of kept.mine, [total, in] after a gather. FP8: `kept` then holds both quantised forms instead,
  // and what they are is returned by every further call.
  Task<LinearInput> read(KeptInput& kept, int64_t total, Lane& lane) const;

 private:
  LinearFormat format_;
  std::optional<TensorParallel> tensor_;
};

// An activation that is kept in full anyway, as forward and as backward read it.
LinearInput forward_input(Tensor x, const LinearFormat& format, Stream& stream);
LinearInput backward_input(Tensor x, const LinearFormat& format, Stream& stream);

// A gradient as both of a linear's backward products read it; `offsets` [segments + 1]: one run of rows an expert.
struct QuantizedGradient {
  QuantizedRows rows;
  QuantizedColumns columns;
};
QuantizedGradient quantize_gradient(const Tensor& d_y, std::vector<int64_t> offsets, const LinearFormat& format,
                                    Stream& stream);

}  // namespace shoal
