// core/cli/final_session.cpp: config, tokenizer and weights from one folder.
#include "core/cli/final_session.h"

#include "core/config/validate.h"

namespace shoal {

namespace {

LoadedConfig load_final_config(const FinalModel& final_model, const std::vector<std::string>& mesh) {
  LoadedConfig loaded = load_config({final_model.config_path().string()});
  std::vector<std::string> overrides;
  for (const std::string& axis : mesh) overrides.push_back("parallel." + axis);
  LoadedConfig asked = parse_config("", "--mesh", overrides);
  *loaded.config.mutable_parallel() = asked.config.parallel();
  // Whoever reads a refusal looks for a value where it was given: not in the run's file.
  std::erase_if(loaded.origins, [](const auto& entry) { return entry.first.starts_with("parallel"); });
  for (const auto& [path, origin] : asked.origins) loaded.origins[path] = "--mesh";
  validate(loaded, ConfigUse::kStep);
  return loaded;
}

// The device is this machine's business, not that of the one that trained; so are threads.
RunConfig run_of(const Config& config) {
  RunConfig run = config.run();
  run.clear_device();
  run.clear_threads();
  return run;
}

std::unique_ptr<Tokenizer> open_final_tokenizer(const FinalModel& final_model, const Config& config) {
  const auto file = final_model.tokenizer_path();
  if (!file && !config.data().has_tokenizer()) return nullptr;
  auto tokenizer = open_tokenizer(file ? file->string() : config.data().tokenizer());
  if (tokenizer->vocab_size() > config.model().vocab()) {
    fail("{}: the tokenizer has {} tokens, the model only {}: the two files do not belong together",
         final_model.directory().string(), tokenizer->vocab_size(), config.model().vocab());
  }
  return tokenizer;
}

}  // namespace

FinalSession::FinalSession(MpiSession& session, const std::string& path, const std::vector<std::string>& mesh)
    : final_model_(path),
      loaded_(load_final_config(final_model_, mesh)),
      job_(session, loaded_.config.parallel(), run_of(loaded_.config)),
      tokenizer_(open_final_tokenizer(final_model_, loaded_.config)),
      runtime_(loaded_.config.model(), job_.mesh(), job_.allocator(),
               {.compute = resolve_compute(loaded_.config.precision(), job_.allocator().device(), job_.world()),
                .train = false,
                .max_position = loaded_.config.data().seq_len(),
                .precision = loaded_.config.precision()}) {
  runtime_.load(final_model_);
}

}  // namespace shoal
