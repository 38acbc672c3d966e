// core/train/op_speeds.h: how long this machine takes for an op that does stated work: measured, kept in a file, looked
// up by the simulated device's clock.
//
//   seconds = s_per_call + s_per_flop * executed FLOPs + s_per_byte * bytes
//
// fitted, op by op and precision by precision, to the calls of a training step with every op timed. The host's time
// around ops (allocation, plans, coroutines) is the step's time that went neither to ops nor to waiting for the wire,
// and is dealt to the ops' calls in equal parts.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/work.h"
#include "core/train/rehearsal.h"

namespace shoal {

struct OpSpeed {
  std::string op;
  WorkKind kind = WorkKind::kElementwise;
  DType precision = DType::kF32;
  double s_per_call = 0;
  double s_per_flop = 0;
  double s_per_byte = 0;
  // The calls that were timed.
  int64_t calls = 0;
  double flops = 0, bytes = 0, seconds = 0;

  double seconds_of(const Work& work) const {
    return s_per_call + s_per_flop * work.executed_flops + s_per_byte * work.bytes;
  }
};

struct OpSpeeds {
  // What was measured.
  std::string model;
  std::string compute;
  std::string device;
  int num_ranks = 1;
  int threads_per_rank = 1;
  double step_s = 0;    // the median of the timed steps, on this rank
  double ops_s = 0;     // of it, in ops
  double waited_s = 0;  // for the wire, and for slower ranks
  int64_t calls = 0;

  double between_ops_s = 0;  // per call
  std::vector<OpSpeed> ops;
};

// The ops of a table, each with the sum of its timed seconds. Non-negative coefficients of least squares, each call's
// error relative to its time; an op that was called with one size only is taken as proportional to its FLOPs (GEMMs,
// attention) or bytes.
std::vector<OpSpeed> fit_op_speeds(const WorkBySize& timed);

// Collective: `steps` steps with every op timed; that of the median time is kept. For one lane and fast links: waiting
// must not overlap with anything.
OpSpeeds measure_op_speeds(Rehearsal& rehearsal, int steps);

// Those ops, and what is between them, so much longer that what was waited is theirs. On endless links a rank waits for
// the slowest at every exchange, and for what MPI itself needs to hand messages over.
OpSpeeds at_pace_of_slowest(OpSpeeds speeds);

// A JSON object, indented, and back. Reading throws Error naming the file and what is wrong with it.
std::string to_json(const OpSpeeds& speeds);
OpSpeeds read_op_speeds(const std::string& path);

// By the names that files hold. Throw for names that nobody has.
WorkKind work_kind_named(const std::string& name);
DType dtype_named(const std::string& name);

// The seconds of any op. One that was not measured, or in another precision, is taken at the mean rate of its kind in
// that precision, else of its kind, and remembered.
class OpTimes {
 public:
  // `speeds` must outlive it.
  explicit OpTimes(const OpSpeeds& speeds);

  double seconds(const Work& work);
  // By op, seconds of those that were not measured, since the last reset.
  const std::map<std::string, double>& guessed_s() const { return guessed_s_; }
  void reset_guesses() { guessed_s_.clear(); }

 private:
  double guess(const Work& work) const;

  const OpSpeeds& speeds_;
  std::map<std::pair<std::string_view, DType>, const OpSpeed*> by_op_;
  std::map<std::string, double> guessed_s_;
};

}  // namespace shoal
