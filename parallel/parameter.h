// parallel/parameter.h: one weight: its global name, what this rank holds of it, and how to get it.
//
// Storage belongs to a bucket (gradient_buckets.h): `weight` is a view of the bucket's gathered weights in the compute
// dtype, `grad` a view of the bucket's f32 gradients. The f32 master and the moments live in the optimizer, sharded.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/lane.h"
#include "core/base/tensor.h"
#include "kernels/gemm.h"
#include "parallel/sharding.h"

namespace shoal {

// Which ranks hold the same values of a parameter: over them its gradient is summed, and its optimizer state sharded
// (process_mesh.h: replicas()).
enum class ParameterGroup {
  kEveryRank,  // norms, routers, low-rank projections: every rank sees other tokens
  kTensor,     // split over the tensor ranks: those with the same tensor coordinate
  kExpert,     // experts: those with the same expert and expert_tensor coordinates
};

enum class ParameterUse {
  kMatrix,          // [out, in], read by GEMMs: packed once per version
  kExperts,         // [local_experts, out, in], read by grouped GEMMs: packed once per version
  kPlain,           // read as it is: norms, embedding tables
  kPlainAndMatrix,  // an embedding table that a GEMM reads too (tied head): packed as well
};

struct ParameterSpec {
  std::string name;        // "layers.3.attention.q": global, the same on every rank and layout
  Shape shape;             // of what this rank holds
  Sharding sharding = {};  // where that lies in the global tensor; without dims: it is all of it
  ParameterUse use = ParameterUse::kMatrix;
  ParameterGroup group = ParameterGroup::kEveryRank;
  double init_std = 0;           // normal with this deviation; 0: all ones (norm weights)
  double init_perturbation = 0;  // relative size of a random change to them (train.perturb_init)
  bool decay = true;             // weight decay: off for norms
  bool fp8 = false;              // kMatrix, kExperts: quantised once per version, for FP8 products
  bool always_f32 = false;       // computed in f32 whatever the compute dtype (the router)
  int num_uses = 1;              // places that produce a gradient for it (tied head: 2; more with MTP)
  int num_plain_uses = 1;        // kPlain…: the first so many of them only ever add to their gradient
  bool grad_in_forward = false;  // one of them already in a microbatch's forward (the head)

  bool is_plain() const { return use == ParameterUse::kPlain || use == ParameterUse::kPlainAndMatrix; }
  Shape global_shape() const { return sharding.dims.empty() ? shape : sharding.global_shape(); }
};

class Parameter {
 public:
  const ParameterSpec& spec() const { return spec_; }
  size_t index() const { return index_; }  // in its store: forward layer order

  // Awaits the gather of its bucket, then packs (and quantises) once per version. Every reader calls it first.
  Task<void> ready(Lane& lane);
  // Awaits the gather alone, at no wire point: nothing else is posted meanwhile.
  Task<void> gathered(Lane& lane);

  const Tensor& weight() const { return weight_; }
  const PackedMatrix& packed() const;                    // kMatrix, kPlainAndMatrix
  std::span<const PackedMatrix> packed_experts() const;  // kExperts

  // The f32 (f64) gradient of one use: every use writes its own. They are summed in order of use after the sum over
  // ranks, so that microbatches add up in the same order on one rank and dealt to several.
  const Tensor& grad(int use = 0) const;
  // kOverwrites for the first GEMM into this use's gradient since its bucket began anew (a step, or a round),
  // kAccumulates afterwards. The plain uses of a kPlain… parameter are zeroed there and always accumulate.
  Write next_grad_write(int use = 0);

  // Replaces the weights by `values` (as many elements, f64, f32 or bf16), rounded to the compute dtype. Every rank of
  // the group loads the same values. An f32 master, if there is one, is not touched. No gather may be in flight.
  void load(const Tensor& values, Stream& stream);
  // The weights in f32, whatever the compute dtype: exact but for f64. No gather may be in flight.
  std::vector<float> to_f32() const;
  // To be called after writing to weight() by hand: the next ready() packs again.
  void weight_changed() { ++version_; }

 private:
  friend class ParameterStore;
  friend class GradientBuckets;
  bool is_packed_as_matrix() const;
  void check_settled() const;

  ParameterSpec spec_;
  size_t index_ = 0;
  Tensor weight_;
  std::vector<Tensor> grads_;       // one a use; empty when nothing is trained
  std::vector<bool> grad_written_;  // in this step
  std::vector<PackedMatrix> packed_;
  int64_t version_ = 0;         // of the weights; grows with every update; 0: never filled
  int64_t packed_version_ = 0;  // of the packed copies
  OperationPtr gather_;         // in flight, or null
  PackFor pack_for_ = PackFor::kForwardAndBackward;
};

}  // namespace shoal
