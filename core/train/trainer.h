// core/train/trainer.h: a whole training run: data in, steps, validation, samples, metrics, RUN/final/ out.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/cpu_threads.h"
#include "core/train/data_position.h"
#include "core/train/evaluator.h"
#include "core/train/memory_report.h"
#include "core/train/metrics.h"
#include "core/train/progress.h"
#include "core/train/run_summary.h"
#include "core/train/slow_links.h"
#include "core/train/stop_request.h"
#include "core/train/stragglers.h"
#include "core/train/timeline.h"
#include "core/train/train_step.h"
#include "core/train/training_checkpoints.h"
#include "data/loader.h"
#include "data/packing.h"
#include "data/tokenizer.h"
#include "optim/batch_schedule.h"
#include "parallel/process_mesh.h"

namespace shoal {

struct TrainerOptions {
  std::string config_text;                // the resolved config, saved in the run folder
  std::vector<std::string> command_line;  // for environment.json
  const StopRequest* stop = nullptr;      // asked after every step; outlives the trainer. Null: nobody stops it
  int64_t memory_bytes = 0;               // what this rank can have, for parallel.overlap AUTO; 0: not known
};

// One rank of a run. Every public call is Collective; rank 0 writes the run folder and speaks.
class Trainer {
 public:
  // `config` must be validated. Opens the data, makes the run folder, draws the weights.
  // The scratch of the mesh's groups comes from `allocator`.
  Trainer(const Config& config, const ProcessMesh& mesh, Allocator& allocator, const CpuThreads& threads,
          TrainerOptions options);

  enum class End {
    kDone,
    kRequeue,  // stopped before the last step, saved: start the same command again
  };
  // Trains from the checkpoint it goes on with, or from the start, and writes RUN/final/ at the end.
  End run();

 private:
  void announce();
  std::string dispatch_text() const;
  void set_up_routing_record();
  void begin_or_go_on();
  void leave_later_steps();
  void start_prefetch();
  StepVerdict train_one_step(int64_t step);
  void save(int64_t step);
  void finish_save_in_flight();
  void finish_last_save();
  bool went_back_from_bad_state(int64_t step, bool stop);
  void note_newest_checkpoint(int64_t step);
  void roll_back(int64_t step);
  void give_up(int64_t step, const std::string& reason);
  StepInput next_input(int64_t step);
  StepMetrics metrics_of(int64_t step, const StepOutcome& outcome, double step_s);
  void add_rank_totals(StepMetrics& metrics, const StepOutcome& outcome);
  void watch_links(const StepMetrics& metrics, double slowest_step_s);
  void validate(int64_t step);
  void sample(int64_t step);
  bool final_is_current();
  void set_final_aside();
  std::string command_to_go_on() const;
  void write_final();
  void note_measured_memory();
  void write_summary();
  JobTime job_time() const;
  bool is_finished() const { return progress_.step() >= batches_.steps(); }
  bool speaks() const { return mesh_.world().rank() == 0; }

  const ProcessMesh& mesh_;
  const int64_t start_ns_, start_unix_s_;
  TrainerOptions options_;
  CpuThreads threads_;
  DType compute_;
  Config config_;  // parallel.overlap resolved

  std::unique_ptr<Tokenizer> tokenizer_;  // null when data.tokenizer is not set
  std::shared_ptr<const TrainingStream> training_;
  std::optional<Evaluator> evaluator_;  // absent without validation data
  std::unique_ptr<Prefetcher> prefetcher_;
  BatchSchedule batches_;
  DataPosition position_;

  std::vector<int64_t> resume_from_;  // steps of checkpoints, the likeliest first; none: from the start
  RankMemory predicted_memory_;       // rank 0
  std::filesystem::path run_dir_;     // made once the data is known to be there, before anything expensive
  ModelRuntime runtime_;
  TrainStep step_;
  TrainingCheckpoints checkpoints_;
  FaultDetector faults_;
  Progress progress_;  // after the last step
  TimelineRecorder timeline_;
  std::optional<MetricsLog> log_;  // rank 0
  MfuConvention convention_;
  double flops_per_token_ = 0;
  RunSummary summary_;      // rank 0
  WireBytes sent_;          // by this rank, when last looked
  double training_s_ = 0;   // in steps since this start, for the time left
  int64_t first_step_ = 1;  // of this start
  double longest_step_s_ = 0;
  double earlier_training_s_ = 0;  // of the starts before
  // What the ranks told each other with the last step's metrics.
  bool stop_asked_ = false;
  bool all_written_ = false;
  bool save_due_ = false;
  int64_t newest_checkpoint_ = -1;  // its step; -1: none
  StragglerWatch stragglers_;       // rank 0
  LinkWatch link_watch_;
};

}  // namespace shoal
