// core/cli/import.cpp: `shoal import`: another program's model as a run of ours.
#include "core/huggingface/import.h"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "core/cli/commands.h"

namespace shoal {
namespace {

struct Options {
  std::string from, to;
  std::string format = "hf";
  bool no_training = false;
};

constexpr const char* kDescription = R"(Read the folder of a Hugging Face model into a run folder.

  shoal import exported/deepseek runs/a          then: shoal generate runs/a, shoal evaluate runs/a --data tokens/x

Reads deepseek_v3, deepseek_v2, glm4_moe, qwen3_moe, olmoe, mixtral, qwen3 and llama: bf16, f32, f16, and FP8 with a
scale per 128 x 128 block, from model.safetensors or shards with an index. Writes TO/final/ with weights,
config.textproto and the tokenizer's file, and TO/checkpoints/step-0, from which training goes on:
  shoal train runs/a/final/config.textproto my_data.textproto run.dir=runs/a
What the model needs and Shoal does not have is refused, and named.)";

void run(const Options& options) {
  const HfTensorSource source(options.from);
  std::vector<std::string> notes = import_hf(source, options.to, "shoal " SHOAL_VERSION, !options.no_training);
  int64_t parameters = 0;
  for (const auto& [name, tensor] : source.tensors()) parameters += name.ends_with(".bias") ? 0 : tensor.shape.numel();
  fmt::print("{}/final: {}, {} parameters in {} tensors\n", options.to, hf_class(source.config().architecture),
             parameters, source.tensors().size());
  notes.insert(notes.end(), source.notes().begin(), source.notes().end());
  for (const std::string& note : notes) fmt::print("  {}\n", note);
}

}  // namespace

void add_import_command(Command shoal) {
  auto options = std::make_shared<Options>();
  Command command = shoal.subcommand("import", kDescription);
  command.positional("from", options->from, "A folder with config.json and safetensors files");
  command.positional("to", options->to, "The run folder to make; it must hold no final/");
  command.flag("--no-training", options->no_training, "Only final/: no checkpoint to train on from");
  command.choice("--format", options->format, "What it is", {"hf"});
  command.action([options] { run(*options); });
}

}  // namespace shoal
