// core/checkpoint/tensor_source_final.h: the tensors of RUN/final/.
#pragma once

#include <map>
#include <string>

#include "core/checkpoint/final_model.h"
#include "core/checkpoint/tensor_source.h"

namespace shoal {

class FinalTensorSource final : public TensorSource {
 public:
  explicit FinalTensorSource(FinalModel model);

  std::string description() const override { return model_.tensors().path().string(); }
  const std::map<std::string, SourceTensor>& tensors() const override { return tensors_; }
  void read(const std::string& name, int64_t begin, const Tensor& out) const override;

 private:
  FinalModel model_;
  std::map<std::string, SourceTensor> tensors_;
};

// A tensor's shape and dtype in our words: F16 counts as f32, and FP8 as bf16, which holds its values (times their
// scales: rounded). Throws Error for any other dtype, and for more dimensions than a Shape has.
SourceTensor source_tensor(const StoredTensor& tensor, const std::string& file);

}  // namespace shoal
