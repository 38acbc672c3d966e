// core/cli/model_session.h: a trained model opened for reading: what generate and evaluate share.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/checkpoint/stored_tokenizer.h"
#include "core/cli/job.h"
#include "core/config/load.h"
#include "core/train/model_runtime.h"

namespace shoal {

class ModelSession {
 public:
  // `path`: a run folder, its final/, or one of its checkpoints; of a run folder without final/ the newest checkpoint
  // that every rank can read, which rank 0 then says. `mesh`: axes to split the model over ("tensor=2", "expert=4"),
  // whatever it was trained with; none: every rank holds all of it. Collective.
  ModelSession(MpiSession& session, const std::string& path, const std::vector<std::string>& mesh);

  const Config& config() const { return loaded_.config; }
  const Job& job() const { return job_; }
  ModelRuntime& runtime() { return runtime_; }
  // Null when the run had none, or its file is missing.
  const Tokenizer* tokenizer() const { return tokenizer_.tokenizer.get(); }
  // Why it is null; or what could not be checked, which rank 0 has then said.
  const std::string& tokenizer_note() const { return tokenizer_.note; }

 private:
  std::string try_to_load(size_t place);
  size_t load_first_good();

  std::vector<std::filesystem::path> places_;  // the same on every rank
  StoredModel stored_;
  LoadedConfig loaded_;
  Job job_;
  StoredTokenizer tokenizer_;
  ModelRuntime runtime_;
};

}  // namespace shoal
