// core/huggingface/source.h: a Hugging Face model as a source of our tensors.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/tensor_source.h"
#include "core/huggingface/config.h"
#include "core/huggingface/folder.h"
#include "core/huggingface/names.h"

namespace shoal {

// Reads bf16, f32, f16 and FP8 (E4M3 with an f32 scale per 128 × 128 block in NAME_scale_inv). All names and shapes are
// checked when it is opened: what is missing or too many is named. Blocks of multi-token prediction may be absent, as
// transformers leaves them; the config then has none.
class HfTensorSource final : public TensorSource {
 public:
  explicit HfTensorSource(const std::filesystem::path& path);

  const HfConfig& config() const { return config_; }
  const HfFolder& files() const { return files_; }
  // What the reader of a report should know: tensors and keys that were not used.
  const std::vector<std::string>& notes() const { return notes_; }

  std::string description() const override { return files_.folder().path().string(); }
  const std::map<std::string, SourceTensor>& tensors() const override { return tensors_; }
  // Also throws where a value is not finite: file, tensor and element by their names there.
  void read(const std::string& name, int64_t begin, const Tensor& out) const override;

 private:
  struct Piece {
    HfFolder::Place place;
    int64_t begin = 0;  // element of ours
    int64_t count = 0;
  };

  void check_size() const;
  void drop_absent_mtp();
  void check_names(const HfNames& names);
  void add_piece(const HfTensor& tensor);
  const HfFolder::Place* find(const std::string& name) const;

  HfFolder files_;
  HfConfig config_;
  std::vector<std::string> notes_;
  std::map<std::string, SourceTensor> tensors_;
  std::map<std::string, std::vector<Piece>> pieces_;  // in the order of their elements
};

}  // namespace shoal
