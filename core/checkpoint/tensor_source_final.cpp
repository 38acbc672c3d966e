// core/checkpoint/tensor_source_final.cpp: one file, read in ranges.
#include "core/checkpoint/tensor_source_final.h"

#include <utility>

namespace shoal {

SourceTensor source_tensor(const StoredTensor& tensor, const std::string& file) {
  SourceTensor described;
  if (tensor.shape.size() > static_cast<size_t>(Shape::kMaxDims)) {
    fail("{}: tensor \"{}\" has {} dimensions; no tensor of a model here has more than {}", file, tensor.name,
         tensor.shape.size(), Shape::kMaxDims);
  }
  for (const int64_t extent : tensor.shape) described.shape.append(extent);
  if (tensor.dtype == "F64") {
    described.dtype = DType::kF64;
  } else if (tensor.dtype == "F32" || tensor.dtype == "F16") {
    described.dtype = DType::kF32;
  } else if (tensor.dtype == "BF16" || tensor.dtype == "F8_E4M3") {
    described.dtype = DType::kBF16;
  } else {
    fail("{}: tensor \"{}\": expected dtype F64, F32, F16, BF16 or F8_E4M3, found {}", file, tensor.name, tensor.dtype);
  }
  return described;
}

FinalTensorSource::FinalTensorSource(FinalModel model) : model_(std::move(model)) {
  for (const StoredTensor& tensor : model_.tensors().tensors()) {
    tensors_[tensor.name] = source_tensor(tensor, description());
  }
}

void FinalTensorSource::read(const std::string& name, int64_t begin, const Tensor& out) const {
  model_.tensors().read_range(name, begin, out);
}

}  // namespace shoal
