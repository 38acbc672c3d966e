// parallel/parameter_store.h: all parameters of a model on this rank, in forward layer order.
//
// Building a model declares its parameters here; GradientBuckets then gives them storage and their initial values.
#pragma once

#include <deque>

#include "parallel/parameter.h"

namespace shoal {

class ParameterStore {
 public:
  // init_perturbation: of every parameter, see ParameterSpec.
  explicit ParameterStore(double init_perturbation = 0) : init_perturbation_(init_perturbation) {}

  // The reference stays valid for the store's life. Throws when the name is taken or the spec contradicts itself.
  Parameter& add(ParameterSpec spec);

  std::deque<Parameter>& parameters() { return parameters_; }
  const std::deque<Parameter>& parameters() const { return parameters_; }
  Parameter& find(const std::string& name);  // throws when absent

  // Elements over all parameters of this rank (a shared one counts once).
  int64_t numel() const;

 private:
  double init_perturbation_;
  std::deque<Parameter> parameters_;
};

}  // namespace shoal
