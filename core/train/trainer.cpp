// core/train/trainer.cpp: the loop and its bookkeeping.
#include "core/train/trainer.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>

#include "core/base/steady_clock.h"
#include "core/model/flops.h"
#include "core/train/data_agreement.h"
#include "core/train/environment.h"
#include "core/train/generator.h"
#include "core/train/microbatches.h"
#include "core/train/open_run.h"
#include "core/train/overlap_choice.h"
#include "core/train/rehearsal.h"
#include "core/train/run_folder.h"
#include "data/open_data.h"
#include "optim/lr_schedule.h"
#include "parallel/flight_recorder.h"

namespace shoal {

namespace {

std::unique_ptr<Tokenizer> open_model_tokenizer(const Config& config) {
  if (!config.data().has_tokenizer()) return nullptr;
  auto tokenizer = open_tokenizer(config.data().tokenizer());
  if (tokenizer->vocab_size() > config.model().vocab()) {
    fail("model.vocab ({}) is smaller than the {} tokens of the tokenizer '{}': raise model.vocab to at least {}",
         config.model().vocab(), tokenizer->vocab_size(), config.data().tokenizer(), tokenizer->vocab_size());
  }
  return tokenizer;
}

int64_t unix_seconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

// With parallel.overlap resolved.
Config with_overlap(Config config, const ProcessMesh& mesh, DType compute, int64_t memory_bytes, DeviceKind device) {
  config.mutable_parallel()->set_overlap(choose_overlap(config, mesh, compute, memory_bytes, device));
  return config;
}

// Before anything large is allocated. On rank 0, which speaks.
RankMemory foresee_memory(const Config& config, const ProcessMesh& mesh, DType compute, DeviceKind device,
                          int64_t memory_bytes) {
  if (mesh.world().rank() != 0) return {};
  RankMemory predicted = predict_memory(config, mesh, compute, device);
  const std::string warning = shortage_warning(predicted, memory_bytes);
  if (!warning.empty()) spdlog::warn("{}", warning);
  return predicted;
}

}  // namespace

Trainer::Trainer(const Config& config, const ProcessMesh& mesh, Allocator& allocator, const CpuThreads& threads,
                 TrainerOptions options)
    : mesh_(mesh),
      start_ns_(steady_ns()),
      start_unix_s_(unix_seconds()),
      options_(std::move(options)),
      threads_(threads),
      compute_(resolve_compute(config.precision(), allocator.device(), mesh.world())),
      config_(with_overlap(config, mesh, compute_, options_.memory_bytes, allocator.device())),
      tokenizer_(open_model_tokenizer(config)),
      training_(open_training_stream(config.data(), config.model().vocab(), config.run().seed(), tokenizer_.get())),
      batches_(config.train()),
      position_(batches_, config.data().seq_len()),
      resume_from_(find_checkpoints(config_, mesh.world(), allocator)),
      predicted_memory_(foresee_memory(config_, mesh, compute_, allocator.device(), options_.memory_bytes)),
      run_dir_(open_run_folder(config_, compute_, !resume_from_.empty(), mesh.world())),
      runtime_(config_.model(), mesh, allocator, training_options(config_, compute_)),
      step_(runtime_, config_),
      checkpoints_(config_, options_.config_text, runtime_, step_.optimizer()),
      faults_(config_.train().faults()),
      timeline_(config_.train(), mesh.world(), runtime_.stream(), run_dir_ / "timeline.json",
                {.config = config_.model().name(),
                 .schedule = ParallelConfig::Overlap::Schedule_Name(config_.parallel().overlap()),
                 .date = utc_now(),
                 .commit = source_commit()}) {
  if (config_.data().validation_size() > 0) {
    evaluator_.emplace(open_validation_stream(config_.data(), config_.model().vocab(), tokenizer_.get()),
                       tokenizer_ ? tokenizer_->byte_lengths() : std::vector<int32_t>(),
                       config_.train().validation_sequences(), config_.train().microbatch());
  }
  step_.set_judge([this](double loss, double norm) { return faults_.judge(loss, norm, newest_checkpoint_ >= 0); });
  checkpoints_.set_data(agree_on_data(*training_, tokenizer_.get(), mesh_.world(), allocator));
  begin_or_go_on();
  if (speaks()) {
    describe_run(run_dir_, options_.config_text,
                 environment_json({.command_line = options_.command_line,
                                   .num_ranks = mesh_.world().size(),
                                   .threads_per_rank = threads_.num_threads,
                                   .cpus_of_rank = threads_.cpus,
                                   .compute = std::string(name_of(compute_))}));
    log_->write_text(0, "config", "```\n" + options_.config_text + "\n```");
  }
  if (!resume_from_.empty()) leave_later_steps();
  if (is_finished()) return;
  if (config_.checkpoint().every_steps() > 0) checkpoints_.open_for_saving();
  set_up_routing_record();
  start_prefetch();
}

void Trainer::begin_or_go_on() {
  if (!resume_from_.empty()) {
    const PhaseScope phase(mesh_.world(), Phase::kLoad);
    progress_ = checkpoints_.resume(resume_from_);
    if (progress_.step() > batches_.steps()) {
      fail(
          "train.steps = {}: the checkpoint that this run goes on from, {}, is of step {}; expected at least that. "
          "Raise train.steps, or go back with train.resume=STEP train.resume_step=N (`shoal checkpoint list {}`)",
          batches_.steps(), CheckpointFolder(run_dir_).of_step(progress_.step()).string(), progress_.step(),
          run_dir_.string());
    }
    position_.go_on_from(progress_);
    faults_.set_recent_losses({progress_.recent_loss().begin(), progress_.recent_loss().end()});
    earlier_training_s_ = progress_.training_seconds();
    newest_checkpoint_ = progress_.step();
  }
  progress_.set_seed(config_.run().seed());
  first_step_ = progress_.step() + 1;
  if (!speaks()) return;
  // First, because it locks the folder: run_folder.h.
  log_.emplace(run_dir_, resume_from_.empty() ? std::nullopt : std::optional(progress_.step()));
  if (!resume_from_.empty()) say(fmt::format("going on from the checkpoint of step {}", progress_.step()));
}

// A final/ and checkpoints of later steps than this one belong to a way that is left here: where the run was told to
// go back, and where the newest checkpoint could not be loaded. Should that one be readable later, two ways would mix.
void Trainer::leave_later_steps() {
  // Before checkpoints, from which a run that is killed in between goes on and writes it anew.
  set_final_aside();
  const bool goes_back = config_.train().resume() == TrainConfig::STEP || progress_.step() < resume_from_.front();
  if (goes_back) checkpoints_.set_aside_after(progress_.step());
}

void Trainer::set_up_routing_record() {
  const MoeConfig& moe = config_.model().moe();
  const std::vector<Router*> routers = runtime_.model().routers();
  const bool replay = moe.routing() == MoeConfig::REPLAY;
  if (routers.empty() || !moe.has_replay_file() || moe.routing() == MoeConfig::BALANCED) return;
  const RouteRecordShape shape{.moe_layers = static_cast<int64_t>(routers.size()),
                               .topk = moe.topk(),
                               .num_experts = moe.num_experts(),
                               .rows_per_step = config_.train().global_batch() * config_.data().seq_len()};
  const bool goes_on = !resume_from_.empty() && std::filesystem::exists(moe.replay_file());
  if (speaks() && !replay && !goes_on) RouteRecord::create(moe.replay_file(), shape);
  wait(mesh_.world().barrier());
  auto record = std::make_shared<RouteRecord>(moe.replay_file(), shape, !replay);
  if (replay) record->read(batches_.steps(), 0, 0, 1);  // too short a record is refused now, not at its end
  for (Router* router : routers) router->set_record(record);
}

void Trainer::start_prefetch() {
  const int rank = mesh_.data().rank();
  const int size = mesh_.data().size();
  const int64_t microbatch = config_.train().microbatch();
  const int64_t first_step = progress_.step() + 1, last_step = batches_.steps();
  auto ranges = [=, position = position_](int64_t k) -> std::optional<std::vector<SampleRange>> {
    const int64_t step = first_step + k;
    if (step > last_step) return std::nullopt;
    const SampleRange sequences = position.sequences_of(step);
    return deal_sequences(sequences, rank, size, num_microbatches(sequences.count, size, microbatch));
  };
  prefetcher_ =
      std::make_unique<Prefetcher>(training_, std::move(ranges), std::max(1, config_.data().prefetch_steps()));
}

Trainer::End Trainer::run() {
  if (is_finished()) {
    if (speaks()) {
      say(fmt::format("{} has all its {} steps; raise train.steps, and name it in train.allow_changed, to train on",
                      run_dir_.string(), batches_.steps()));
    }
    if (config_.train().save_final() && !final_is_current()) write_final();
    return End::kDone;
  }
  announce();
  if (first_step_ == 1) validate(0);
  if (speaks()) say(progress_header(convention_));
  while (!is_finished()) {
    const int64_t step = progress_.step() + 1;
    const StepVerdict verdict = train_one_step(step);
    if (verdict.action == StepVerdict::Action::kStop) give_up(step, verdict.reason);
    if (verdict.action == StepVerdict::Action::kRollBack) {
      roll_back(step);
      continue;
    }
    const TrainConfig& train = config_.train();
    const bool last = is_finished(), stop = stop_asked_ && !last;
    if (all_written_) finish_save_in_flight();
    checkpoints_.report(false);
    if (!stop) {  // whoever asked may not wait for long
      if (last || (train.validate_every() > 0 && step % train.validate_every() == 0)) validate(step);
      if (train.sample_every() > 0 && (last || step % train.sample_every() == 0)) sample(step);
    }
    const int64_t every = config_.checkpoint().every_steps();
    save_due_ = save_due_ || (every > 0 && step % every == 0);
    // Weights that a fault was just found with are no state to go back to: they wait for a step that is good.
    const bool good = verdict.action == StepVerdict::Action::kUpdate;
    if (checkpoints_.saves() && (last || stop || (save_due_ && good))) {
      save(step);
      save_due_ = false;
      if (last || stop) finish_save_in_flight();  // whether the state is good is known then
    }
    if (went_back_from_bad_state(step, stop)) continue;
    if (stop) break;
  }
  finish_last_save();
  if (timeline_.write_rest() && speaks()) say(fmt::format("wrote {}", timeline_.file().string()));
  note_measured_memory();
  if (!is_finished()) {
    if (speaks() && checkpoints_.saves() && checkpoints_.newest_step() != progress_.step()) {
      say(fmt::format(
          "stopped after step {} of {}, which could not be saved; {} goes on {}", progress_.step(), batches_.steps(),
          command_to_go_on(),
          checkpoints_.newest_step() < 0 ? "from the start" : fmt::format("from step {}", checkpoints_.newest_step())));
    } else if (speaks()) {
      say(checkpoints_.saves()
              ? fmt::format("stopped after step {} of {}; {} goes on from there", progress_.step(), batches_.steps(),
                            command_to_go_on())
              : fmt::format("stopped after step {} of {}; nothing was saved: checkpoint.every_steps is 0",
                            progress_.step(), batches_.steps()));
    }
    return End::kRequeue;
  }
  if (config_.train().save_final()) write_final();
  return End::kDone;
}

StepInput Trainer::next_input(int64_t step) {
  const PhaseScope phase(mesh_.world(), Phase::kData);
  const TraceSection traced(runtime_.stream().trace(), TraceTrack::kData, "data");
  std::optional<std::vector<Batch>> batches;
  {
    const TraceSection waited(runtime_.stream().trace(), TraceTrack::kData, "prefetcher");
    batches = prefetcher_->next();
  }
  SHOAL_CHECK(batches.has_value(), "no batches for step {}", step);
  StepInput input{.step = step,
                  .lr = learning_rate(config_.optim(), step, batches_.steps()),
                  .scored_tokens = 0,
                  .mtp_loss_weight = mtp_loss_weight(config_.model().mtp(), step, batches_.steps()),
                  .microbatches = make_microbatches(*batches, step, position_.sequences_of(step),
                                                    config_.model().mtp().depth(), runtime_.stream())};
  for (const Batch& batch : *batches) input.scored_tokens += batch.num_scored();
  return input;
}

StepVerdict Trainer::train_one_step(int64_t step) {
  timeline_.begin_step(step);
  const StepScope phase(mesh_.world(), step);
  const int64_t begin_ns = steady_ns();
  sent_ = mesh_.bytes();
  StepInput input = next_input(step);
  const StepOutcome outcome = step_.run(std::move(input));
  runtime_.stream().wait();  // a GPU may still be at the update
  const int64_t end_ns = steady_ns();
  const double step_s = static_cast<double>(end_ns - begin_ns) * 1e-9;
  timeline_.end_step(step, begin_ns, end_ns);
  training_s_ += step_s;
  longest_step_s_ = std::max(longest_step_s_, step_s);
  if (outcome.verdict.action == StepVerdict::Action::kSkip) progress_.set_skipped_steps(progress_.skipped_steps() + 1);
  const bool counts =
      outcome.verdict.action == StepVerdict::Action::kUpdate || outcome.verdict.action == StepVerdict::Action::kSkip;
  if (counts) progress_.set_step(step);
  const StepMetrics metrics = metrics_of(step, outcome, step_s);
  const bool wrote_timeline = timeline_.write_after(step);
  if (!speaks()) return outcome.verdict;
  {
    const PhaseScope writes(mesh_.world(), Phase::kSave);  // the disk may stall
    log_->write(metrics);
  }
  if (outcome.verdict.action == StepVerdict::Action::kSkip) {
    spdlog::warn("step {}: {}; the update was skipped ({} so far)", step, outcome.verdict.reason,
                 progress_.skipped_steps());
  } else if (outcome.update_skipped()) {
    spdlog::warn("step {}: {}", step, outcome.verdict.reason);
  }
  const int64_t every = std::max<int64_t>(1, config_.train().log_every());
  if (step == first_step_ || step % every == 0 || step == batches_.steps()) {
    say(progress_line(metrics, batches_.steps(),
                      eta_s(training_s_, batches_.first_sequence(step + 1) - batches_.first_sequence(first_step_),
                            batches_.total_sequences() - batches_.first_sequence(first_step_))));
  }
  if (wrote_timeline) say(fmt::format("wrote {}", timeline_.file().string()));
  return outcome.verdict;
}

void Trainer::validate(int64_t step) {
  if (!evaluator_) return;
  const PhaseScope phase(mesh_.world(), Phase::kEvaluate);
  const TraceSection traced(runtime_.stream().trace(), TraceTrack::kValidation, "validation");
  ValidationMetrics metrics = evaluator_->run(runtime_, mesh_.data());
  metrics.step = step;
  metrics.tokens = position_.tokens_behind(step);
  metrics.job = job_time();
  if (!speaks()) return;
  log_->write(metrics);
  say(validation_line(metrics));
}

void Trainer::sample(int64_t step) {
  if (!tokenizer_) return;
  const PhaseScope phase(mesh_.world(), Phase::kSample);
  // Every rank writes the same text, so that no rank waits for weights that another never asks for.
  const std::string text =
      generate_text(runtime_, *tokenizer_, config_.generate(), config_.run().seed(), [](std::string_view) {});
  if (!speaks()) return;
  log_->write_text(step, "sample", "```\n" + text + "\n```");
  say(fmt::format("sample after step {}: {}", step, text));
}

}  // namespace shoal
