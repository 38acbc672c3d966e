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
  // `path`: a run folder, or its final/. Collective.
  FinalSession(MpiSession& session, const std::string& path);

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
