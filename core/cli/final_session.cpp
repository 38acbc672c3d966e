// core/cli/final_session.cpp: config, tokenizer and weights from one folder.
#include "core/cli/final_session.h"

#include "core/config/validate.h"

namespace shoal {

namespace {

LoadedConfig load_final_config(const FinalModel& final_model) {
  LoadedConfig loaded = load_config({final_model.config_path().string()});
  validate(loaded, ConfigUse::kStep);
  return loaded;
}

std::unique_ptr<Tokenizer> open_final_tokenizer(const FinalModel& final_model, const Config& config) {
  if (const auto file = final_model.tokenizer_path()) return open_tokenizer(file->string());
  if (!config.data().has_tokenizer()) return nullptr;
  return open_tokenizer(config.data().tokenizer());
}

}  // namespace

FinalSession::FinalSession(MpiSession& session, const std::string& path)
    : final_model_(path),
      loaded_(load_final_config(final_model_)),
      job_(session, loaded_.config.parallel()),
      tokenizer_(open_final_tokenizer(final_model_, loaded_.config)),
      runtime_(loaded_.config.model(), job_.mesh().data(), job_.mesh().expert_data(),
               {.compute = resolve_compute(loaded_.config.precision()),
                .train = false,
                .max_position = loaded_.config.data().seq_len()}) {
  runtime_.load(final_model_);
}

}  // namespace shoal
