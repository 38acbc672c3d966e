// core/cli/final_session.h: a trained model opened for reading: what generate and evaluate share.
#pragma once

#include <memory>
#include <string>

#include "core/checkpoint/final_model.h"
#include "core/cli/job.h"
#include "core/config/load.h"
#include "core/train/model_runtime.h"
#include "data/tokenizer.h"

namespace shoal {

class FinalSession {
 public:
  // `path`: a run folder, or its final/. `mesh`: axes to split the model over ("tensor=2", "expert=4"), whatever it was
  // trained with; none: every rank holds all of it. Collective.
  FinalSession(MpiSession& session, const std::string& path, const std::vector<std::string>& mesh);

  const Config& config() const { return loaded_.config; }
  const Job& job() const { return job_; }
  ModelRuntime& runtime() { return runtime_; }
  // Null when the run had none.
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }

 private:
  FinalModel final_model_;
  LoadedConfig loaded_;
  Job job_;
  std::unique_ptr<Tokenizer> tokenizer_;
  ModelRuntime runtime_;
};

}  // namespace shoal
