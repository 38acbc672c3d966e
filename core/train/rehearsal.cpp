// core/train/rehearsal.cpp: the training step itself, fed with random tokens.
#include "core/train/rehearsal.h"

#include <chrono>
#include <numeric>

#include "core/base/random.h"
#include "core/model/flops.h"
#include "core/train/microbatches.h"
#include "core/train/progress.h"
#include "core/train/train_state.h"

namespace shoal {

Batch random_batch(SampleRange range, int64_t seq_len, int64_t vocab, uint64_t seed) {
  Batch batch;
  batch.range = range;
  batch.seq_len = seq_len;
  const CounterRandom random(seed, stream_of("rehearsal"));
  const auto draw = [&](int64_t position) {
    return static_cast<int32_t>(random.below(static_cast<uint64_t>(vocab), static_cast<uint64_t>(position)));
  };
  batch.document_offsets.push_back(0);
  for (int64_t s = 0; s < range.count; ++s) {
    for (int64_t t = 0; t < seq_len; ++t) {
      const int64_t position = (range.first + s) * (seq_len + 1) + t;
      batch.tokens.push_back(draw(position));
      batch.targets.push_back(draw(position + 1));
      batch.positions.push_back(static_cast<int32_t>(t));
    }
    batch.document_offsets.push_back((s + 1) * seq_len);
  }
  return batch;
}

RuntimeOptions training_options(const Config& config, DType compute) {
  return {.compute = compute,
          .train = true,
          .max_position = config.data().seq_len(),
          .bucket_bytes = config.parallel().bucket_mib() << 20,
          .dispatch = config.parallel().dispatch(),
          .recompute = config.train().recompute(),
          .perturb_init = config.train().perturb_init(),
          .precision = config.precision()};
}

Rehearsal::Rehearsal(const Config& config, const ProcessMesh& mesh, Allocator& allocator, DType compute)
    : config_(config),
      mesh_(mesh),
      runtime_(config_.model(), mesh, allocator, training_options(config_, compute)),
      step_(runtime_, config_) {}

int64_t Rehearsal::run_step() {
  const SampleRange sequences{.first = steps_ * config_.train().global_batch(),
                              .count = config_.train().global_batch()};
  const int64_t seq_len = config_.data().seq_len();
  const int64_t count = num_microbatches(sequences.count, mesh_.data().size(), config_.train().microbatch());
  ++steps_;
  const MtpConfig& mtp = config_.model().mtp();
  StepInput input{.step = steps_,
                  .lr = config_.optim().lr(),
                  .scored_tokens = 0,
                  .mtp_loss_weight = mtp.loss_weight(),
                  .microbatches = {}};
  std::vector<Batch> batches;
  for (const SampleRange& range : deal_sequences(sequences, mesh_.data().rank(), mesh_.data().size(), count)) {
    batches.push_back(random_batch(range, seq_len, config_.model().vocab(), config_.run().seed()));
    my_tokens_ += batches.back().rows();
    input.scored_tokens += batches.back().num_scored();
  }
  input.microbatches = make_microbatches(batches, steps_, sequences, mtp.depth(), runtime_.stream());
  last_ = step_.run(std::move(input));
  return sequences.count * seq_len;
}

double timed_step_s(Rehearsal& rehearsal, Communicator& group) {
  wait(group.barrier());
  const auto begin = std::chrono::steady_clock::now();
  rehearsal.run_step();
  rehearsal.runtime().stream().wait();
  wait(group.barrier());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

PaperSnapshot::PaperSnapshot(const Config& config, Rehearsal& rehearsal, DeviceKind device)
    : rehearsal_(rehearsal),
      saves_(config.checkpoint().every_steps() > 0 && needs_snapshot(config.checkpoint(), device)),
      snapshot_(device == DeviceKind::kCuda ? host_ : rehearsal.runtime().allocator()) {
  if (config.checkpoint().every_steps() < config.train().steps()) take_last();
}

void PaperSnapshot::take_last() {
  if (saves_) snapshot_.take(state_pieces(rehearsal_.runtime(), rehearsal_.optimizer()));
}

DryRun dry_run(const Config& config, const ProcessMesh& mesh, Allocator& simulated, DType compute, DeviceKind device) {
  SHOAL_CHECK(simulated.device() == DeviceKind::kSimulated);
  Rehearsal rehearsal(config, mesh, simulated, compute);
  PaperSnapshot snapshot(config, rehearsal, device);
  DryRun run;
  run.tokens_per_step = rehearsal.run_step();
  rehearsal.runtime().buckets().wait_for_weights();  // the next step's first passes gather what is left
  snapshot.take_last();
  const ParameterCounts counts = count_parameters(config.model());
  run.parameters = counts.total;
  run.active_parameters = counts.active;
  run.with_mtp = config.model().mtp().depth() > 0;
  run.flops_per_token = flops_per_token(config.model(), config.data().seq_len(), {.with_mtp = run.with_mtp});
  run.ranks_per_sequence = mesh.tensor().size();
  const auto my_tokens = static_cast<double>(rehearsal.my_tokens());
  run.stated_flops_per_token = my_tokens > 0 ? rehearsal.runtime().stream().model_flops() / my_tokens : 0;
  run.memory = {.use = rehearsal.runtime().allocator().use(), .host_snapshot_bytes = snapshot.host_bytes()};
  run.sent = mesh.bytes();
  return run;
}

std::string describe(const DryRun& run) {
  std::string text = fmt::format("parameters          {:>15}\n", format_count(run.parameters));
  text += fmt::format("  active per token  {:>15}\n", format_count(run.active_parameters));
  text += fmt::format("tokens per step     {:>15}\n", format_count(run.tokens_per_step));
  text += fmt::format("GFLOP per token     {:>15.4f}   forward and backward, causal, {} MTP\n",
                      run.flops_per_token * 1e-9, run.with_mtp ? "with" : "without");
  text += fmt::format("  stated by the ops {:>15.4f}{}\n", run.stated_flops_per_token * 1e-9,
                      run.ranks_per_sequence > 1 ? "   this rank's share" : "");
  text += "memory of one rank  at the peak   own highest\n";
  const MemoryUse& use = run.memory.use;
  for (int k = 0; k < kNumMemoryKinds; ++k) {
    const auto i = static_cast<size_t>(k);
    text += fmt::format("  {:<17} {:>11}   {:>11}\n", name_of(static_cast<MemoryKind>(k)),
                        format_bytes(use.at_total_peak_bytes[i]), format_bytes(use.peak_bytes[i]));
  }
  text += fmt::format("  {:<17} {:>11}\n", "peak", format_bytes(use.total_peak_bytes));
  if (const int64_t bytes = run.memory.host_snapshot_bytes; bytes > 0) {
    text += fmt::format("  {:<17} {:>11}\n", "snapshot, in host", format_bytes(bytes));
  }
  text += "sent in one step, routing balanced\n";
  const auto sent = [&](const char* name, int64_t bytes, double busy_s) {
    text += fmt::format("  {:<17} {:>11}", name, format_bytes(bytes));
    text += busy_s > 0 ? fmt::format("   {:.4g} ms on the described link\n", busy_s * 1e3) : "\n";
  };
  sent("inside the node", run.sent.payload[1], run.busy_s[0]);
  sent("between nodes", run.sent.payload[2], run.busy_s[1]);
  sent("metadata", run.sent.metadata_total(), 0);
  return text;
}

}  // namespace shoal
