// parallel/parameter_store.cpp: declaration and look-up.
#include "parallel/parameter_store.h"

#include <algorithm>

namespace shoal {

namespace {

void check_spec(const ParameterSpec& spec) {
  SHOAL_CHECK(!spec.name.empty(), "a parameter needs a name");
  SHOAL_CHECK(spec.num_uses >= 1, "{} has {} uses", spec.name, spec.num_uses);
  SHOAL_CHECK(spec.init_std >= 0, "{} has init_std {}", spec.name, spec.init_std);
  SHOAL_CHECK(!spec.is_plain() || (spec.num_plain_uses >= 1 && spec.num_plain_uses <= spec.num_uses),
              "{} has {} plain uses of {}", spec.name, spec.num_plain_uses, spec.num_uses);
  SHOAL_CHECK(spec.sharding.dims.empty() || spec.sharding.local_shape() == spec.shape, "{} holds {} in shape {}",
              spec.name, spec.sharding.local_shape(), spec.shape);
  SHOAL_CHECK(!spec.fp8 || (!spec.is_plain() && !spec.always_f32), "{} cannot be read in FP8", spec.name);
  const int dims = spec.shape.dims();
  SHOAL_CHECK(spec.use != ParameterUse::kMatrix || dims == 2, "{} is a matrix of shape {}", spec.name, spec.shape);
  SHOAL_CHECK(spec.use != ParameterUse::kExperts || dims == 3, "{} holds experts in shape {}", spec.name, spec.shape);
  SHOAL_CHECK(spec.use != ParameterUse::kPlainAndMatrix || dims == 2,
              "{} of shape {} is shared with a GEMM, which reads [out, in]", spec.name, spec.shape);
}

}  // namespace

Parameter& ParameterStore::add(ParameterSpec spec) {
  check_spec(spec);
  SHOAL_CHECK(std::ranges::none_of(parameters_, [&](const Parameter& p) { return p.spec_.name == spec.name; }),
              "two parameters are named {}", spec.name);
  Parameter& parameter = parameters_.emplace_back();
  parameter.spec_ = std::move(spec);
  parameter.spec_.init_perturbation = init_perturbation_;
  parameter.index_ = parameters_.size() - 1;
  return parameter;
}

Parameter& ParameterStore::find(const std::string& name) {
  const auto at = std::ranges::find_if(parameters_, [&](const Parameter& p) { return p.spec_.name == name; });
  SHOAL_CHECK(at != parameters_.end(), "no parameter is named {}", name);
  return *at;
}

int64_t ParameterStore::numel() const {
  int64_t numel = 0;
  for (const Parameter& parameter : parameters_) numel += parameter.spec_.shape.numel();
  return numel;
}

}  // namespace shoal
