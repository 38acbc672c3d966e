// core/huggingface/source.cpp: every tensor of ours is a row of pieces of theirs.
#include "core/huggingface/source.h"

#include <algorithm>
#include <set>

#include "core/base/json_text.h"
#include "core/checkpoint/finite_values.h"
#include "core/checkpoint/tensor_source_final.h"
#include "core/config/validate.h"
#include "core/huggingface/fp8.h"

namespace shoal {
namespace {

constexpr size_t kMostNamed = 5;

std::string list(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMostNamed); ++i) {
    text += fmt::format("{}\"{}\"", i ? ", " : "", shown_text(names[i]));
  }
  return names.size() > kMostNamed ? text + fmt::format(" and {} more", names.size() - kMostNamed) : text;
}

// Computed from the config, and in the files of some old models.
bool is_harmless(const std::string& name) { return name.ends_with(".rotary_emb.inv_freq"); }

Shape shape_of(const StoredTensor& tensor) {
  Shape shape;
  for (const int64_t extent : tensor.shape) {
    if (shape.dims() == Shape::kMaxDims) return {};
    shape.append(extent);
  }
  return shape;
}

}  // namespace

HfTensorSource::HfTensorSource(const std::filesystem::path& path)
    : files_(path), config_(parse_hf_config(files_.config_text(), files_.config_name())), notes_(config_.notes) {
  if (!config_.unknown_keys.empty()) {
    notes_.push_back(fmt::format("config.json has keys that are not understood and were left aside: {}",
                                 list(config_.unknown_keys)));
  }
  check_size();
  drop_absent_mtp();
  const HfNames names = hf_names(config_.model, config_.architecture);
  check_names(names);
  for (const auto& [name, shape] : names.ours) {
    tensors_[name] = {.shape = shape, .dtype = DType::kBF16};
  }
  for (const HfTensor& tensor : names.tensors) {
    if (!tensor.is_copy && !tensor.source.empty()) add_piece(tensor);
  }
  for (auto& [name, pieces] : pieces_) {
    std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.begin < b.begin; });
    int64_t end = 0;
    for (const Piece& piece : pieces) {
      SHOAL_CHECK_EQ(piece.begin, end);
      end += piece.count;
    }
    SHOAL_CHECK_EQ(end, tensors_.at(name).shape.numel());
  }
}

const HfFolder::Place* HfTensorSource::find(const std::string& name) const {
  const auto found = files_.tensors().find(name);
  return found == files_.tensors().end() ? nullptr : &found->second;
}

// Before anything is made for each layer and expert that a damaged config may claim.
void HfTensorSource::check_size() const {
  LoadedConfig loaded;
  *loaded.config.mutable_model() = config_.model;
  try {
    validate(loaded, ConfigUse::kCount);
  } catch (const Error& error) {
    fail("{}: in Shoal's words: {}", files_.config_name(), error.what());
  }
  const ModelConfig& model = config_.model;
  const int64_t of_experts = model.has_moe() ? 3 * model.moe().num_experts() : 0;
  const int64_t least = model.layers() + (model.layers() - model.moe().first_dense_layers()) * of_experts;
  if (least > static_cast<int64_t>(files_.tensors().size())) {
    fail("{}: describes {} layers{}, which are more than {} tensors; the files hold {}", files_.config_name(),
         model.layers(), model.has_moe() ? fmt::format(" of {} experts", model.moe().num_experts()) : "", least,
         files_.tensors().size());
  }
}

void HfTensorSource::drop_absent_mtp() {
  if (config_.model.mtp().depth() == 0) return;
  const std::string prefix = fmt::format("model.layers.{}.", config_.model.layers());
  const auto first = files_.tensors().lower_bound(prefix);
  if (first != files_.tensors().end() && first->first.starts_with(prefix)) return;
  config_.model.clear_mtp();
  notes_.push_back("config.json speaks of multi-token prediction, and the files have no weights of it: left out");
}

void HfTensorSource::check_names(const HfNames& names) {
  std::set<std::string> used;
  std::vector<std::string> missing, extra;
  for (const HfTensor& tensor : names.tensors) {
    const HfFolder::Place* place = find(tensor.name);
    if (place == nullptr) {
      if (!tensor.is_copy && !tensor.source.empty()) missing.push_back(tensor.name);
      continue;
    }
    used.insert(tensor.name);
    if (shape_of(*place->tensor) != tensor.shape) {
      fail("{}: tensor \"{}\": expected shape {}, as {} describes the model, found {}", place->file->path().string(),
           tensor.name, tensor.shape, files_.config_name(), shape_of(*place->tensor));
    }
    if (place->tensor->dtype == "F8_E4M3") {
      check_fp8_scale(tensor.name, *place, find(fp8_scale_name(tensor.name)));
      used.insert(fp8_scale_name(tensor.name));
    }
  }
  if (!missing.empty()) {
    fail("{}: {} of {} tensors are missing: {}", description(), missing.size(), names.tensors.size(), list(missing));
  }
  for (const auto& [name, place] : files_.tensors()) {
    if (used.contains(name) || is_harmless(name)) continue;
    if (name == "lm_head.weight") {  // not used: tied models share the embedding
      notes_.push_back("lm_head.weight was left aside: tie_word_embeddings says that it is the embedding");
      continue;
    }
    extra.push_back(name);
  }
  if (!extra.empty()) {
    fail("{}: holds {} tensors that the model of its config.json does not have: {}", description(), extra.size(),
         list(extra));
  }
}

// tensor.order is how the architecture's own weights stand: those of this folder stand as its config.json says, which
// is what our config says.
void HfTensorSource::add_piece(const HfTensor& tensor) {
  const HfFolder::Place& place = *find(tensor.name);
  pieces_[tensor.source].push_back(
      {.place = place, .begin = tensor.first_row * tensor.width(), .count = tensor.shape.numel()});
  const DType stored = source_tensor(*place.tensor, place.file->path().string()).dtype;
  DType& dtype = tensors_.at(tensor.source).dtype;
  if (size_of(stored) > size_of(dtype)) dtype = stored;
}

void HfTensorSource::read(const std::string& name, int64_t begin, const Tensor& out) const {
  const auto found = pieces_.find(name);
  if (found == pieces_.end()) fail("{}: has no tensor \"{}\"", description(), name);
  const int64_t end = begin + out.numel();
  SHOAL_CHECK(begin >= 0 && end <= tensors_.at(name).shape.numel(), "{}: elements [{}, {})", name, begin, end);
  const Tensor flat = out.reshape({out.numel()});
  for (const Piece& piece : found->second) {
    const int64_t from = std::max(begin, piece.begin), to = std::min(end, piece.begin + piece.count);
    if (from >= to) continue;
    const Tensor part = flat.rows(from - begin, to - from);
    const StoredTensor& tensor = *piece.place.tensor;
    if (tensor.dtype == "F8_E4M3") {
      read_fp8(piece.place, *find(fp8_scale_name(tensor.name)), from - piece.begin, part);
    } else {
      piece.place.file->read_range(tensor.name, from - piece.begin, part);
    }
    if (const int64_t bad = first_not_finite(part.raw(), part.numel(), part.dtype()); bad >= 0) {
      fail("{}: tensor \"{}\": element {} is not finite: such a model is of no use; get the file anew",
           piece.place.file->path().string(), tensor.name, from - piece.begin + bad);
    }
  }
}

}  // namespace shoal
