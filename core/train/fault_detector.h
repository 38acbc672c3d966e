// core/train/fault_detector.h: was a step good, and if not, what now? The same answer on every rank.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "core/config/config.pb.h"

namespace shoal {

struct StepVerdict {
  enum class Action { kUpdate, kSkip, kRollBack, kStop };
  Action action = Action::kUpdate;
  std::string reason = {};  // of all but kUpdate
};

// Fed with every step's loss and gradient norm, which are the same numbers on every rank.
class FaultDetector {
 public:
  explicit FaultDetector(const FaultConfig& config) : config_(config) {}

  // Between a step's backward and its update. can_roll_back: there is a checkpoint.
  StepVerdict judge(double loss, double grad_norm, bool can_roll_back);

  // When a save found weights or moments that are not finite, though losses and gradients were: `found` says which. A
  // skipped step would not mend them: SKIP is ROLL_BACK here, where there is a checkpoint, else STOP.
  StepVerdict judge_state(std::string found, bool can_roll_back);

  // The losses that the next one is compared with: kept in checkpoints, so that a run that goes on judges alike.
  std::vector<double> recent_losses() const { return {losses_.begin(), losses_.end()}; }
  void set_recent_losses(const std::vector<double>& losses) { losses_.assign(losses.begin(), losses.end()); }
  // A new checkpoint exists. Once a good step has followed it, its weights are known to be good, and roll-backs are
  // counted anew; a loss says what the weights before it were, not what its own update made of them.
  void note_checkpoint() { unproven_checkpoint_ = true; }
  // Since then: each goes a checkpoint further back than the one before.
  int64_t roll_backs() const { return roll_backs_; }

 private:
  StepVerdict react(FaultConfig::Reaction reaction, std::string reason, bool can_roll_back);

  FaultConfig config_;
  std::deque<double> losses_;
  int64_t skips_in_a_row_ = 0;
  int64_t roll_backs_ = 0;
  bool unproven_checkpoint_ = false;
};

}  // namespace shoal
