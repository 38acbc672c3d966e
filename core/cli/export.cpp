// core/cli/export.cpp: `shoal export`: a trained model for other programs.
#include "core/huggingface/export.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/out_of_memory.h"
#include "core/checkpoint/open_tensor_source.h"
#include "core/checkpoint/stored_tokenizer.h"
#include "core/cli/commands.h"
#include "core/config/load.h"
#include "core/huggingface/tokenizer.h"

namespace shoal {
namespace {

struct Options {
  std::string from, to;
  std::string format = "hf", dtype = "bf16";
  double shard_gib = 5;
  int64_t max_positions = 0;
  bool without_mtp = false;
};

constexpr const char* kDescription = R"(Write a trained model as the folder of a Hugging Face model.

  shoal export runs/a exported/a                 bf16, in files of at most 5 GiB
  shoal export runs/a exported/a --dtype f32

The architecture follows from the config: DeepSeek-V3 and V2 (MLA), GLM-4-MoE (GQA, experts by sigmoid), Qwen3-MoE,
OLMoE and Mixtral (GQA, experts by softmax), Qwen3 and Llama (dense). A config that none of them computes is refused
with the field that stands in the way. The folder appears when it is whole: TO must not be there, or be empty.)";

// What is wrong with the model that is stored, not with what becomes of it.
class Unreadable : public Error {
 public:
  using Error::Error;
};

class TellsUnreadable final : public TensorSource {
 public:
  explicit TellsUnreadable(const TensorSource& source) : source_(source) {}
  std::string description() const override { return source_.description(); }
  const std::map<std::string, SourceTensor>& tensors() const override { return source_.tensors(); }
  void read(const std::string& name, int64_t begin, const Tensor& out) const override {
    try {
      source_.read(name, begin, out);
    } catch (const OutOfMemory&) {
      throw;
    } catch (const Error& error) {
      throw Unreadable(error.what());
    }
  }

 private:
  const TensorSource& source_;
};

// What the config knows to be others than the tokenizer's end of a document.
HfSpecialIds special_ids(const HuggingFaceConfig& config) {
  HfSpecialIds ids;
  if (config.has_bos_id()) ids.bos = config.bos_id();
  ids.eos.assign(config.eos_id().begin(), config.eos_id().end());
  if (config.has_pad_id()) ids.pad = config.pad_id();
  return ids;
}

void export_model(const Options& options, const StoredModel& model) {
  const Config config = parse_config(model.config_text, model.config_name).config;
  HfExportOptions hf;
  hf.dtype = options.dtype == "f32" ? DType::kF32 : DType::kBF16;
  hf.shard_bytes = static_cast<int64_t>(options.shard_gib * 1073741824.0);
  hf.max_positions = options.max_positions > 0 ? options.max_positions : config.data().seq_len();
  hf.mtp = !options.without_mtp;
  hf.metadata = {{"producer", "shoal " SHOAL_VERSION}};
  hf.ids = special_ids(config.huggingface());
  std::vector<std::string> notes;
  const StoredTokenizer stored = open_stored_tokenizer(model, config.data().tokenizer());
  if (stored.tokenizer && stored.tokenizer->vocab_size() > config.model().vocab()) {
    notes.push_back(
        fmt::format("the tokenizer has {} tokens, the model only {}: it is another model's, and none was written",
                    stored.tokenizer->vocab_size(), config.model().vocab()));
  } else if (stored.tokenizer) {
    HfTokenizerFiles files = hf_tokenizer_files(*stored.tokenizer, hf.max_positions, hf.ids);
    hf.ids = files.ids;
    hf.more = std::move(files.files);
    notes = std::move(files.notes);
    if (!stored.note.empty()) notes.push_back(stored.note);
  } else {
    notes.push_back(stored.note + "; none was written");
  }
  const HfExportReport report = export_hf(TellsUnreadable(*model.tensors), config, hf, options.to);
  fmt::print("{}: {}, {} parameters in {} tensors, {:.2f} GB in {} file(s)\n", options.to,
             hf_class(report.architecture), report.parameters, report.num_tensors,
             static_cast<double>(report.bytes) * 1e-9, report.num_files);
  fmt::print("  of {}\n", model.tensors->description());
  notes.insert(notes.end(), report.notes.begin(), report.notes.end());
  for (const std::string& note : notes) fmt::print("  {}\n", note);
}

StoredModel open_readable(const std::filesystem::path& place) {
  try {
    return open_stored_model(place);
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error& error) {
    throw Unreadable(error.what());
  }
}

// Data are verified as they are read: a checkpoint that is damaged shows itself under way, and nothing is left of what
// was written by then.
void run(const Options& options) {
  const std::vector<std::filesystem::path> places = find_stored_models(options.from);
  for (size_t i = 0;; ++i) {
    try {
      return export_model(options, open_readable(places[i]));
    } catch (const Unreadable& error) {
      if (i + 1 == places.size()) throw;
      spdlog::warn("{} cannot be read, and {} is taken: {}", places[i].string(), places[i + 1].string(), error.what());
    }
  }
}

}  // namespace

void add_export_command(Command shoal) {
  auto options = std::make_shared<Options>();
  Command command = shoal.subcommand("export", kDescription);
  command.positional("from", options->from,
                     "A run folder, its final/, or a checkpoint such as RUN/checkpoints/step-1000");
  command.positional("to", options->to, "The folder to make");
  command.choice("--format", options->format, "What to write", {"hf"});
  command.choice("--dtype", options->dtype, "Of the weights", {"bf16", "f32"});
  command.option("--shard-gib", options->shard_gib, "Most tensor data in one file, in GiB", {.low = 1e-6, .high = 1e6});
  command.option("--max-positions", options->max_positions,
                 "The longest sequence that config.json promises, where YaRN does not say it; 0: data.seq_len",
                 {.low = 0});
  command.flag("--without-mtp", options->without_mtp, "Leave out the blocks of multi-token prediction");
  command.action([options] { run(*options); });
}

}  // namespace shoal
