// core/model/swiglu_pair.h: SwiGLU between the two linears of an MLP, or of many experts: run, kept, run again.
//
//   gate_up [rows, 2 * ffn] → inner [rows, ffn], times a weight a row where experts have one
//
// FP8 (arXiv:2412.19437 §3.3.3): what is kept is gate_up in codes; backward decodes it, and computes inner again in the
// form that the second linear's weight gradient reads.
#pragma once

#include "core/model/feed_forward.h"

namespace shoal {

class SwigluPair {
 public:
  // keep_inner: inner is kept from forward to backward.
  SwigluPair(LinearFormat format, bool keep_inner) : format_(std::move(format)), keep_inner_(keep_inner) {}

  // Keeps gate_up as backward will need it; `weights` [rows] or undefined; `offsets`: runs of rows, one an expert.
  void keep(Tensor gate_up, const Tensor& weights, const std::vector<int64_t>& offsets, SwigluSaved& saved,
            Stream& stream) const;
  // inner as the second linear's forward reads it.
  LinearInput forward(const Tensor& gate_up, const Tensor& weights, Stream& stream) const;

  // Takes gate_up out of `saved`, in the compute dtype.
  Tensor take_gate_up(SwigluSaved& saved, DType compute, Stream& stream) const;
  // Takes inner out of `saved`, or computes it again, as the second linear's weight gradient reads it.
  LinearInput take_inner(SwigluSaved& saved, const Tensor& gate_up, const Tensor& weights,
                         const std::vector<int64_t>& offsets, Stream& stream) const;

 private:
  Tensor compute(const Tensor& gate_up, const Tensor& weights, Stream& stream) const;
  QuantizedColumns compute_columns(const Tensor& gate_up, const Tensor& weights, const std::vector<int64_t>& offsets,
                                   Stream& stream) const;
  QuantizeOptions uncounted() const;

  LinearFormat format_;
  bool keep_inner_;
};

}  // namespace shoal
