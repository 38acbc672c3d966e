// core/config/validate.cpp: everything but network and mesh: data, batches, schedule, optimizer, run.
#include "core/config/validate.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/config/checker.h"

namespace shoal {
namespace {

constexpr int64_t kMaxCount = 1'000'000'000'000;
// Rows of a microbatch are counted by int32.
constexpr double kMaxRows = std::numeric_limits<int32_t>::max();

void check_data(const Checker& checker, const DataConfig& data) {
  checker.in_range("data.seq_len", data.seq_len(), int64_t{1}, int64_t{1'000'000'000}, "tokens per sequence");
  checker.in_range("data.prefetch_steps", int64_t{data.prefetch_steps()}, int64_t{1}, int64_t{1024},
                   "steps of tokens that are read ahead");
  int num_weighted = 0;
  for (int i = 0; i < data.train_size() + data.validation_size(); ++i) {
    const bool training = i < data.train_size();
    const int index = training ? i : i - data.train_size();
    const DataSource& source = training ? data.train(index) : data.validation(index);
    const std::string path = fmt::format("data.{}[{}]", training ? "train" : "validation", index);
    if (source.prefix().empty())
      checker.refuse(path, "{}.prefix is not set; name a token file, without .bin/.idx", path);
    checker.at_least(path + ".weight", source.weight(), 0.0, "its share of the sequences");
    if (training && source.weight() > 0) ++num_weighted;
  }
  if (num_weighted != 0 && num_weighted != data.train_size()) {
    checker.refuse(
        "data.train",
        "{} of {} training sources have a weight; give every source one, or none to draw in proportion to tokens",
        num_weighted, data.train_size());
  }
}

void check_train(const Checker& checker, const Config& config) {
  const TrainConfig& train = config.train();
  checker.in_range("train.steps", train.steps(), int64_t{1}, kMaxCount, "optimizer steps");
  checker.in_range("train.global_batch", train.global_batch(), int64_t{1}, kMaxCount,
                   "sequences per step over all ranks");
  checker.in_range("train.microbatch", train.microbatch(), int64_t{1}, kMaxCount, "sequences a rank computes at once");
  checker.in_range("train.ramp_from_batch", train.ramp_from_batch(), int64_t{0}, kMaxCount, "0: no ramp");
  if (train.ramp_from_batch() > train.global_batch()) {
    checker.refuse({"train.ramp_from_batch", "train.global_batch"},
                   "train.ramp_from_batch ({}) exceeds train.global_batch ({}); a batch only grows",
                   train.ramp_from_batch(), train.global_batch());
  }
  checker.in_range("train.ramp_fraction", train.ramp_fraction(), 0.0, 1.0, "a share of the steps");
  checker.in_range("train.validate_every", train.validate_every(), int64_t{0}, kMaxCount, "0: at start and end only");
  checker.in_range("train.validation_sequences", train.validation_sequences(), int64_t{0}, kMaxCount, "0: all of them");
  checker.in_range("train.check_replicas_every", train.check_replicas_every(), int64_t{0}, kMaxCount, "0: never");
  checker.in_range("train.perturb_init", train.perturb_init(), 0.0, 1.0, "a share of each weight");
  checker.in_range("train.sample_every", train.sample_every(), int64_t{0}, kMaxCount, "0: no samples");
  checker.in_range("train.log_every", train.log_every(), int64_t{1}, kMaxCount,
                   "steps from one console line to the next");
  if (train.sample_every() > 0 && config.data().tokenizer().empty()) {
    checker.refuse(
        "train.sample_every",
        "train.sample_every is {}, but data.tokenizer is not set; name the tokenizer, or set sample_every to 0",
        train.sample_every());
  }
  const double tokens = static_cast<double>(train.steps()) * static_cast<double>(train.global_batch()) *
                        static_cast<double>(config.data().seq_len());
  if (tokens > 1e18) {
    checker.refuse({"train.steps", "train.global_batch", "data.seq_len"},
                   "train.steps ({}) * train.global_batch ({}) * data.seq_len ({}) = {:.2g} tokens; at most 1e18",
                   train.steps(), train.global_batch(), config.data().seq_len(), tokens);
  }
}

void check_timeline(const Checker& checker, const TrainConfig& train) {
  if (!train.has_timeline()) return;
  const TimelineConfig& timeline = train.timeline();
  checker.in_range("train.timeline.first_step", timeline.first_step(), int64_t{1}, kMaxCount, "steps count from 1");
  checker.in_range("train.timeline.steps", timeline.steps(), int64_t{1}, int64_t{1000}, "steps that are recorded");
  if (timeline.first_step() > train.steps()) {
    checker.refuse({"train.timeline.first_step", "train.steps"},
                   "train.timeline.first_step ({}) exceeds train.steps ({}): no step would be recorded; name an "
                   "earlier one",
                   timeline.first_step(), train.steps());
  }
  for (int i = 0; i < timeline.ranks_size(); ++i) {
    const std::string path = fmt::format("train.timeline.ranks[{}]", i);
    checker.in_range(path, int64_t{timeline.ranks(i)}, int64_t{0}, int64_t{1'000'000}, "a rank of the world");
    if (std::count(timeline.ranks().begin(), timeline.ranks().begin() + i, timeline.ranks(i)) > 0) {
      checker.refuse(path, "train.timeline.ranks names rank {} twice; once is enough", timeline.ranks(i));
    }
  }
}

// Rows of one microbatch, and of its routed copies, have 32-bit indices.
void check_rows(const Checker& checker, const Config& config) {
  const int64_t sequences = std::min(config.train().microbatch(), config.train().global_batch());
  // All tokens of a group may choose the experts of one rank.
  const int64_t sources = int64_t{config.parallel().expert()} * config.parallel().expert_tensor();
  const int64_t copies = config.model().has_moe() ? config.model().moe().topk() * sources : 1;
  const double rows = static_cast<double>(sequences) * static_cast<double>(config.data().seq_len());
  if (rows * static_cast<double>(copies) > kMaxRows) {
    std::string copies_text;
    if (copies > 1) copies_text = fmt::format(" * model.moe.topk ({})", config.model().moe().topk());
    if (sources > 1) copies_text += fmt::format(" * {} ranks that may all send to one", sources);
    checker.refuse({"train.microbatch", "data.seq_len", "train.global_batch"},
                   "a microbatch of {} sequences * data.seq_len ({}){} = {:.3g} rows; at most {:.0f}:\n"
                   "  lower train.microbatch or data.seq_len",
                   sequences, config.data().seq_len(), copies_text, rows * static_cast<double>(copies), kMaxRows);
  }
}

void check_schedule(const Checker& checker, const ScheduleConfig& schedule) {
  const std::string path = "optim.schedule.";
  const auto fraction = [&](const char* name, double value, const char* what) {
    checker.in_range(path + name, value, 0.0, 1.0, what);
  };
  fraction("warmup_fraction", schedule.warmup_fraction(), "a share of the steps");
  checker.in_range(path + "warmup_steps", schedule.warmup_steps(), int64_t{0}, kMaxCount, "0: by warmup_fraction");
  fraction("min_lr_ratio", schedule.min_lr_ratio(), "a share of the peak rate");
  fraction("constant_fraction", schedule.constant_fraction(), "a share of the steps");
  fraction("cosine_end_fraction", schedule.cosine_end_fraction(), "a share of the steps");
  fraction("final_fraction", schedule.final_fraction(), "a share of the steps");
  fraction("final_lr_ratio", schedule.final_lr_ratio(), "a share of the peak rate");
  if (schedule.kind() != ScheduleConfig::CONSTANT_COSINE) return;
  if (schedule.constant_fraction() > schedule.cosine_end_fraction()) {
    checker.refuse({path + "cosine_end_fraction", path + "constant_fraction"},
                   "{0}constant_fraction ({1}) exceeds {0}cosine_end_fraction ({2}); the "
                   "cosine begins before it ends",
                   path, schedule.constant_fraction(), schedule.cosine_end_fraction());
  }
  if (schedule.cosine_end_fraction() > schedule.final_fraction()) {
    checker.refuse({path + "final_fraction", path + "cosine_end_fraction"},
                   "{0}cosine_end_fraction ({1}) exceeds {0}final_fraction ({2}); the last rate "
                   "comes after the cosine",
                   path, schedule.cosine_end_fraction(), schedule.final_fraction());
  }
}

void check_warmup(const Checker& checker, const Config& config) {
  const int64_t warmup = config.optim().schedule().warmup_steps();
  if (warmup <= config.train().steps()) return;
  checker.refuse({"optim.schedule.warmup_steps", "train.steps"},
                 "optim.schedule.warmup_steps ({}) exceeds train.steps ({}): the rate would end at {:.2g} of optim.lr; "
                 "shorten the warm-up, or give it as warmup_fraction, which follows train.steps",
                 warmup, config.train().steps(),
                 static_cast<double>(config.train().steps()) / static_cast<double>(warmup));
}

void check_optim(const Checker& checker, const Config& config) {
  const OptimConfig& optim = config.optim();
  checker.positive("optim.lr", optim.lr(), "the peak learning rate");
  for (const auto& [path, beta] : {std::pair{"optim.beta1", optim.beta1()}, std::pair{"optim.beta2", optim.beta2()}}) {
    checker.in_range(path, beta, 0.0, 1.0, "a moment's share of its past");
    if (beta == 1) checker.refuse(path, "{} is 1, so the moment never learns; it must be below 1", path);
  }
  checker.positive("optim.eps", optim.eps(), "it keeps the update from dividing by 0");
  checker.at_least("optim.weight_decay", optim.weight_decay(), 0.0, "0: none");
  checker.at_least("optim.clip_norm", optim.clip_norm(), 0.0, "0: no clipping");
  check_schedule(checker, optim.schedule());
  check_warmup(checker, config);
}

void check_run(const Checker& checker, const Config& config) {
  checker.in_range("run.threads", int64_t{config.run().threads()}, int64_t{0}, int64_t{4096}, "0: by the CPUs at hand");
  if (config.run().dir().empty()) checker.refuse("run.dir", "run.dir is empty; name the folder of the run");
  checker.in_range("run.usd_per_gpu_hour", config.run().usd_per_gpu_hour(), 0.0, 1e6, "0: no money is shown");
  const GenerateConfig& generate = config.generate();
  checker.in_range("generate.max_new_tokens", generate.max_new_tokens(), int64_t{0}, kMaxCount, "tokens to write");
  checker.at_least("generate.temperature", generate.temperature(), 0.0, "0: always the likeliest token");
  checker.in_range("generate.top_k", generate.top_k(), int64_t{0}, kMaxCount, "0: all of them");
}

}  // namespace

void validate(const LoadedConfig& loaded, ConfigUse use) {
  const Checker checker(loaded);
  const Config& config = loaded.config;
  if (!config.has_model()) {
    fail("the config has no model; add a file that has one, such as configs/quickstart.textproto");
  }
  check_finite(checker, config);
  check_model(checker, config.model());
  check_data(checker, config.data());
  check_train(checker, config);
  check_timeline(checker, config.train());
  check_rows(checker, config);
  check_optim(checker, config);
  check_precision(checker, config);
  check_parallel(checker, config.parallel());
  check_overlap(checker, config);
  check_transport(checker, config);
  check_run(checker, config);
  check_durability(checker, config);
  if (use == ConfigUse::kCount) return;

  check_split(checker, config);
  check_fp8_split(checker, config);
  check_recompute(checker, config);
  if (use == ConfigUse::kTrain && config.data().train_size() == 0) {
    checker.refuse("data", "data.train is empty; name the token files to train on, as `shoal tokenize` writes them");
  }
}

}  // namespace shoal
