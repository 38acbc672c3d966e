// parallel/parameter.cpp: awaiting, packing, loading.
#include "parallel/parameter.h"

#include "kernels/elementwise.h"
#include "kernels/gemm_fp8.h"
#include "kernels/grouped_gemm.h"

namespace shoal {

bool Parameter::is_packed_as_matrix() const {
  return spec_.use == ParameterUse::kMatrix || spec_.use == ParameterUse::kPlainAndMatrix;
}

void Parameter::check_settled() const {
  SHOAL_CHECK(weight_.defined(), "{} has no storage: build GradientBuckets first", spec_.name);
  SHOAL_CHECK(gather_ == nullptr || gather_->done(), "the weights of {} are still travelling", spec_.name);
}

Task<void> Parameter::gathered(Lane& lane) {
  if (gather_ == nullptr) co_return;
  co_await lane.wire_in_place(gather_, WireKind::kWeights);
  gather_ = nullptr;
}

Task<void> Parameter::ready(Lane& lane) {
  SHOAL_CHECK(version_ > 0, "{} was never given values: call GradientBuckets::initialize", spec_.name);
  if (gather_ != nullptr) {
    co_await lane.wire(gather_, WireKind::kWeights);
    gather_ = nullptr;
  }
  if (packed_version_ == version_) co_return;
  if (is_packed_as_matrix()) {
    packed_.resize(1);
    (spec_.fp8 ? pack_matrix_fp8 : pack_matrix)(packed_[0], weight_, pack_for_, lane.compute());
  } else if (spec_.use == ParameterUse::kExperts) {
    (spec_.fp8 ? pack_experts_fp8 : pack_experts)(packed_, weight_, pack_for_, lane.compute());
  }
  packed_version_ = version_;
}

const PackedMatrix& Parameter::packed() const {
  SHOAL_CHECK(is_packed_as_matrix(), "{} is not declared for GEMMs", spec_.name);
  SHOAL_CHECK(packed_version_ == version_ && version_ > 0, "{} was read before co_await ready()", spec_.name);
  return packed_[0];
}

std::span<const PackedMatrix> Parameter::packed_experts() const {
  SHOAL_CHECK(spec_.use == ParameterUse::kExperts, "{} is not declared for grouped GEMMs", spec_.name);
  SHOAL_CHECK(packed_version_ == version_ && version_ > 0, "{} was read before co_await ready()", spec_.name);
  return packed_;
}

const Tensor& Parameter::grad(int use) const {
  SHOAL_CHECK(!grads_.empty(), "{} has no gradient: its buckets were built without training", spec_.name);
  SHOAL_CHECK(use >= 0 && use < spec_.num_uses, "use {} of {} declared uses of {}", use, spec_.num_uses, spec_.name);
  return grads_[static_cast<size_t>(use)];
}

Write Parameter::next_grad_write(int use) {
  SHOAL_CHECK(use >= 0 && use < spec_.num_uses, "use {} of {} declared uses of {}", use, spec_.num_uses, spec_.name);
  const bool written = grad_written_[static_cast<size_t>(use)];
  grad_written_[static_cast<size_t>(use)] = true;
  return written ? Write::kAccumulates : Write::kOverwrites;
}

void Parameter::load(const Tensor& values, Stream& stream) {
  check_settled();
  SHOAL_CHECK(values.numel() == weight_.numel(), "{} takes {} elements, given {}", spec_.name, weight_.shape(),
              values.shape());
  cast(weight_, values.reshape(weight_.shape()), stream);
  ++version_;
}

std::vector<float> Parameter::to_f32() const {
  check_settled();
  std::vector<float> values(static_cast<size_t>(weight_.numel()));
  dispatch_floating(weight_.dtype(), [&]<class T>(T) {
    const std::vector<T> stored = weight_.to_vector<T>();
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(stored[i]);
  });
  return values;
}

}  // namespace shoal
