// tests/train/resume_test.cpp: a run that goes on is the run that never stopped, bit for bit; at any layout it is the
// same state.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include "parallel/thread_communicator.h"
#include "tests/checkpoint/failing_file_system.h"
#include "tests/model/tiny_models.h"
#include "tests/rank_check.h"
#include "tests/temporary_folder.h"
#include "tests/train/resumable_run.h"

using namespace shoal;

namespace fs = std::filesystem;

namespace {

struct Ranks {
  int ranks = 1, tensor = 1, expert = 1, expert_tensor = 1;
  std::string title() const { return fmt::format("{}: t{} e{} et{}", ranks, tensor, expert, expert_tensor); }
};

Config resume_config(const ModelConfig& model, const fs::path& run) {
  Config config;
  *config.mutable_model() = model;
  config.mutable_data()->set_seq_len(12);
  config.mutable_train()->set_global_batch(8);
  config.mutable_train()->set_microbatch(1);
  config.mutable_train()->set_steps(100);
  config.mutable_optim()->set_lr(3e-3);
  config.mutable_parallel()->set_bucket_mib(1);
  config.mutable_run()->set_dir(run.string());
  config.mutable_checkpoint()->set_keep(100);
  return config;
}

using Body = std::function<void(ResumableRun&, int rank)>;

void on_ranks(const Config& config, const Ranks& layout, DType compute, const Body& body) {
  const MeshSizes sizes{.tensor = layout.tensor, .expert = layout.expert, .expert_tensor = layout.expert_tensor};
  run_thread_ranks(layout.ranks, {}, [&](Communicator& world, Allocator& allocator) {
    const ProcessMesh mesh(sizes, world);
    ResumableRun run(config, mesh, allocator, compute);
    body(run, world.rank());
  });
}

fs::path step_folder(const fs::path& run, int64_t step) { return CheckpointFolder(run).of_step(step); }

struct Seen {
  std::vector<double> losses, norms;
};

// `before` steps, a save, a stop, and from there to step 8; or all of it at once with before = 8.
Seen train_to_8(Config config, const fs::path& dir, const Ranks& layout, DType compute, int before, int late) {
  config.mutable_run()->set_dir(dir.string());
  fs::create_directories(dir);
  Seen seen;
  const auto step = [&](ResumableRun& run, int rank) {
    run.run_step();
    if (rank != 0) return;
    seen.losses.push_back(run.last().loss);
    seen.norms.push_back(run.last().grad_norm);
  };
  on_ranks(config, layout, compute, [&](ResumableRun& run, int rank) {
    run.open_for_saving();
    for (int i = 1; i <= before; ++i) {
      step(run, rank);
      if (i == before || i == 4) run.save(i == 4 ? late : 0);
    }
    run.end_saves();
  });
  if (before == 8) return seen;
  on_ranks(config, layout, compute, [&](ResumableRun& run, int rank) {
    run.resume({before});
    run.open_for_saving();
    while (run.progress().step() < 8) step(run, rank);
    run.save();
    run.end_saves();
  });
  return seen;
}

bool contains(const std::string& text, const std::string& words) { return text.find(words) != std::string::npos; }

}  // namespace

TEST_CASE("a run that stopped and went on is the run that did not, bit for bit", "[threads][resume]") {
  struct Case {
    const char* name;
    DType compute;
    std::function<void(Config&)> change;
  };
  const Case cases[] = {
      {"f32", DType::kF32, [](Config&) {}},
      {"bf16", DType::kBF16, [](Config& c) { c.mutable_checkpoint()->set_asynchronous(false); }},
      {"bf16 moments", DType::kBF16,
       [](Config& c) {
         c.mutable_precision()->set_moments(PrecisionConfig::MOMENTS_BF16);
         c.mutable_optim()->set_beta2(0.95);
       }},
      {"FP8", DType::kBF16, [](Config& c) { c.mutable_precision()->set_linear(LinearPrecision::FP8); }},
      {"gradients in FP8", DType::kBF16,
       [](Config& c) { c.mutable_precision()->set_gradient_wire(GradientWire::FP8); }},
      {"gradients in INT8", DType::kF32,
       [](Config& c) { c.mutable_precision()->set_gradient_wire(GradientWire::INT8); }},
      {"overlap", DType::kF32,
       [](Config& c) { c.mutable_parallel()->set_overlap(ParallelConfig::Overlap::PAIR_FORWARD_BACKWARD); }},
  };
  const Ranks layouts[] = {{},
                           {.ranks = 2},
                           {.ranks = 2, .expert = 2},
                           {.ranks = 4, .tensor = 2, .expert = 4},
                           {.ranks = 4, .tensor = 2, .expert = 2, .expert_tensor = 2}};
  for (const Case& one : cases) {
    for (const Ranks& layout : layouts) {
      if (layout.ranks == 1 && one.name == std::string("overlap")) continue;
      const TemporaryFolder folder(memory_folder());
      Config config = resume_config(tiny::deepseek_mtp(), folder.path());
      config.mutable_parallel()->set_overlap(ParallelConfig::Overlap::OFF);
      one.change(config);
      INFO(one.name << " at " << layout.title());
      const Seen whole = train_to_8(config, folder / "whole", layout, one.compute, 8, 0);
      const Seen parts = train_to_8(config, folder / "parts", layout, one.compute, 4, 0);
      const Seen beside = train_to_8(config, folder / "beside", layout, one.compute, 8, 2);
      CHECK(whole.losses == parts.losses);
      CHECK(whole.norms == parts.norms);
      CHECK(whole.losses == beside.losses);
      const auto at_end = tensors_of(step_folder(folder / "whole", 8), true);
      CHECK(first_difference(at_end, tensors_of(step_folder(folder / "parts", 8), true)).empty());
      // The copy that was written while training went on is the one of its step.
      CHECK(first_difference(tensors_of(step_folder(folder / "whole", 4), true),
                             tensors_of(step_folder(folder / "beside", 4), true))
                .empty());
      const bool encoded = config.precision().gradient_wire() != GradientWire::F32;
      const bool has_residuals =
          std::ranges::any_of(at_end, [](const auto& entry) { return entry.first.starts_with("residual/"); });
      CHECK(has_residuals == (encoded && layout.ranks > 1));
      CHECK(at_end.size() > 30);
    }
  }
}

TEST_CASE("every pair of layouts: what one saves, the other loads and saves again, bit for bit",
          "[threads][layouts][resume]") {
  const Ranks layouts[] = {{},
                           {.ranks = 2},
                           {.ranks = 3},
                           {.ranks = 2, .tensor = 2},
                           {.ranks = 2, .expert_tensor = 2},
                           {.ranks = 4, .expert = 4},
                           {.ranks = 4, .tensor = 2, .expert = 2},
                           {.ranks = 4, .tensor = 4, .expert = 2, .expert_tensor = 2},
                           {.ranks = 8, .tensor = 2, .expert = 4},
                           {.ranks = 8, .tensor = 4, .expert = 2, .expert_tensor = 4}};
  int pairs = 0;
  for (const Ranks& from : layouts) {
    const TemporaryFolder folder(memory_folder());
    const Config config = resume_config(tiny::deepseek_mtp(), folder.path());
    on_ranks(config, from, DType::kF32, [&](ResumableRun& run, int) {
      run.open_for_saving();
      for (int i = 0; i < 2; ++i) run.run_step();
      run.save();
      run.end_saves();
    });
    const auto saved = tensors_of(step_folder(folder.path(), 2), false);
    // Moments that differ from zero, and biases that have moved.
    REQUIRE(saved.count("layers.1.router.bias") == 1);
    REQUIRE(saved.at("layers.1.router.bias").find_first_not_of('\0') != std::string::npos);
    for (const Ranks& to : layouts) {
      INFO(from.title() << " to " << to.title());
      Config other = config;
      other.mutable_run()->set_dir((folder / "other").string());
      fs::create_directory(folder / "other");
      fs::create_directory_symlink(folder / "checkpoints", folder / "other/checkpoints");
      double loss = 0;
      on_ranks(other, to, DType::kF32, [&](ResumableRun& run, int rank) {
        run.resume({2});
        run.progress().set_step(3);  // so that it is saved beside the one that it came from
        run.open_for_saving();
        run.save();
        run.end_saves();
        run.progress().set_step(2);
        run.run_step();  // and training goes on
        if (rank == 0) loss = run.last().loss;
      });
      CHECK(first_difference(saved, tensors_of(step_folder(folder.path(), 3), false)).empty());
      CHECK(std::isfinite(loss));
      fs::remove_all(step_folder(folder.path(), 3));
      fs::remove_all(folder / "other");
      ++pairs;
    }
  }
  CHECK(pairs == 100);
  WARN(pairs << " ordered pairs of " << std::size(layouts) << " layouts");
}

TEST_CASE("another config is refused with what changed, unless it is allowed by name", "[threads][resume]") {
  const TemporaryFolder folder(memory_folder());
  Config config = resume_config(tiny::llama(), folder.path());
  on_ranks(config, {.ranks = 2}, DType::kF32, [](ResumableRun& run, int) {
    run.open_for_saving();
    run.run_step();
    run.save();
    run.end_saves();
  });
  const auto resume = [&](const std::function<void(Config&)>& change) {
    Config changed = config;
    change(changed);
    return error_of(
        [&] { on_ranks(changed, {.ranks = 2}, DType::kF32, [](ResumableRun& run, int) { run.resume({1}); }); });
  };
  const std::string refused = resume([](Config& c) {
    c.mutable_optim()->set_lr(1e-3);
    c.mutable_optim()->set_beta1(0.5);
    c.mutable_train()->set_log_every(3);
  });
  INFO(refused);
  CHECK(contains(refused, "optim.lr: 0.003 → 0.001"));
  CHECK(contains(refused, "optim.beta1: 0.9 → 0.5"));
  CHECK(contains(refused, "train.allow_changed"));
  CHECK_FALSE(contains(refused, "log_every"));
  CHECK(contains(resume([](Config& c) { c.mutable_run()->set_seed(5); }), "run.seed: 1234 → 5"));
  CHECK(contains(resume([](Config& c) { c.mutable_train()->set_steps(50); }), "train.steps: 100 → 50"));
  CHECK(resume([](Config& c) {
          c.mutable_optim()->set_lr(1e-3);
          c.mutable_train()->add_allow_changed("optim.lr");
        }) == "no error");
  CHECK(resume([](Config& c) {
          c.mutable_optim()->set_lr(1e-3);
          c.mutable_optim()->set_beta1(0.5);
          c.mutable_train()->add_allow_changed("optim");
        }) == "no error");
  CHECK(contains(resume([](Config& c) {
                   c.mutable_optim()->set_lr(1e-3);
                   c.mutable_run()->set_seed(5);
                   c.mutable_train()->add_allow_changed("optim");
                 }),
                 "run.seed"));
  // The layout, the folder and what is reported may change.
  CHECK(resume([](Config& c) {
          c.mutable_parallel()->set_overlap(ParallelConfig::Overlap::OFF);
          c.mutable_train()->set_log_every(7);
          c.mutable_checkpoint()->set_every_steps(3);
        }) == "no error");
}

TEST_CASE("what one rank cannot load, no rank loads: all take the next older", "[threads][resume]") {
  const TemporaryFolder folder(memory_folder());
  const Config config = resume_config(tiny::llama(), folder.path());
  const Ranks layout{.ranks = 2};
  on_ranks(config, layout, DType::kF32, [](ResumableRun& run, int) {
    run.open_for_saving();
    for (int step = 1; step <= 3; ++step) {
      run.run_step();
      run.save();
    }
    run.end_saves();
  });
  const auto damage = [&](int64_t step, int rank) {
    const fs::path file = step_folder(folder.path(), step) / fmt::format("rank-{:05}.safetensors", rank);
    std::string bytes = bytes_of_file(file);
    bytes[bytes.size() - 2] = static_cast<char>(bytes[bytes.size() - 2] ^ 4);
    make_file(file, bytes);
  };
  const auto resumed = [&] {
    std::vector<int64_t> at(2);
    on_ranks(config, layout, DType::kF32, [&](ResumableRun& run, int rank) {
      run.resume({3, 2, 1});
      at[static_cast<size_t>(rank)] = run.progress().step();
      run.open_for_saving();
      run.save();  // the very same: nothing is written
      run.end_saves();
    });
    return at;
  };
  CHECK(resumed() == std::vector<int64_t>(2, 3));
  const auto of_two = tensors_of(step_folder(folder.path(), 2), false);
  damage(3, 1);
  CHECK(resumed() == std::vector<int64_t>(2, 2));
  CHECK(first_difference(of_two, tensors_of(step_folder(folder.path(), 2), false)).empty());
  damage(2, 1);
  CHECK(resumed() == std::vector<int64_t>(2, 1));
  damage(1, 0);
  const std::string error = error_of(resumed);
  INFO(error);
  CHECK(contains(error, "(tried: 3, 2, 1)"));
  CHECK(contains(error, "rank 1: " + step_folder(folder.path(), 3).string()));
  CHECK(contains(error, "the file is damaged"));
  CHECK(contains(error, "shoal checkpoint list " + folder.path().string()));
  CHECK(contains(error, "To start anew, set run.dir to another folder, or run.overwrite=true"));
  CHECK(CheckpointFolder(folder.path()).steps() == std::vector<int64_t>{3, 2, 1});
}

TEST_CASE("moments that are no numbers are no checkpoint: every rank hears it, and goes back", "[threads][resume]") {
  const TemporaryFolder folder(memory_folder());
  const Config config = resume_config(tiny::deepseek(), folder.path());
  on_ranks(config, {.ranks = 2, .expert = 2}, DType::kF32, [&](ResumableRun& run, int rank) {
    run.open_for_saving();
    run.run_step();
    run.save();
    RANK_CHECK(run.checkpoints().take_bad_state().empty());
    run.run_step();
    const double good_loss = run.last().loss;
    // A moment of one rank's shard: no loss and no gradient shows it.
    const Tensor& v = run.step().optimizer().shards().front().v;
    if (rank == 1) v.data<float>()[7] = std::numeric_limits<float>::infinity();
    run.save(2);  // beside two steps
    run.run_step();
    run.run_step();
    RANK_CHECK(std::isfinite(run.last().loss) && std::isfinite(run.last().grad_norm));
    const std::string bad = run.checkpoints().take_bad_state();
    RANK_CHECK(contains(bad, "the state of step 2 is not saved: rank 1: tensor \""));
    RANK_CHECK(contains(bad, "/v\": element ["));
    RANK_CHECK(contains(bad, "] is inf"));
    run.save();  // still so; what roll_back() leaves is new
    run.progress() = run.checkpoints().roll_back();
    RANK_CHECK(run.checkpoints().take_bad_state().empty());
    RANK_CHECK(run.progress().step() == 1);
    run.run_step();
    RANK_CHECK(run.last().loss == good_loss);
    run.save();
    run.end_saves();
    RANK_CHECK(run.checkpoints().take_bad_state().empty());
  });
  CHECK(CheckpointFolder(folder.path()).steps() == std::vector<int64_t>{2, 1});
}

TEST_CASE("a save for which there is no room is counted, and training goes on", "[threads][resume]") {
  const TemporaryFolder folder(memory_folder());
  const Config config = resume_config(tiny::llama(), folder.path());
  FailingFileSystem files;
  run_thread_ranks(2, {}, [&](Communicator& world, Allocator& allocator) {
    const ProcessMesh mesh({}, world);
    ResumableRun run(config, mesh, allocator, DType::kF32, files);
    run.open_for_saving();
    run.run_step();
    run.save();
    run.end_saves();
    wait(world.barrier());
    if (world.rank() == 0) files.arm_bytes(4096);
    wait(world.barrier());
    run.run_step();
    run.save();
    run.end_saves();
    wait(world.barrier());
    RANK_CHECK(run.checkpoints().failed_saves() == (world.rank() == 0 ? 1 : 0));
    if (world.rank() == 0) files.heal();
    wait(world.barrier());
    run.run_step();
    run.save();
    run.end_saves();
    RANK_CHECK(run.checkpoints().failed_saves() == (world.rank() == 0 ? 1 : 0));
    RANK_CHECK(run.checkpoints().newest_step() == (world.rank() == 0 ? 3 : -1));
  });
  CHECK(CheckpointFolder(folder.path()).steps() == std::vector<int64_t>{3, 1});
}

TEST_CASE("which checkpoints a run may begin from", "[resume]") {
  const TemporaryFolder folder(memory_folder());
  Config config = resume_config(tiny::llama(), folder.path());
  using Steps = std::vector<int64_t>;
  CHECK(resume_candidates(config).empty());
  config.mutable_train()->set_resume(TrainConfig::STEP);
  config.mutable_train()->set_resume_step(5);
  CHECK(contains(error_of([&] { resume_candidates(config); }), "there are: none"));
  fs::create_directories(step_folder(folder.path(), 5));
  config.mutable_train()->set_resume(TrainConfig::AUTO);
  // Never from scratch where there was something.
  CHECK(contains(error_of([&] { resume_candidates(config); }), "none that is whole"));
  make_file(step_folder(folder.path(), 5) / "COMMIT", "");
  fs::create_directories(step_folder(folder.path(), 15));
  make_file(step_folder(folder.path(), 15) / "COMMIT", "");
  CHECK(resume_candidates(config) == Steps{15, 5});
  config.mutable_train()->set_resume(TrainConfig::STEP);
  CHECK(resume_candidates(config) == Steps{5});
  config.mutable_train()->set_resume_step(6);
  CHECK(contains(error_of([&] { resume_candidates(config); }), "there are: 15, 5"));
  config.mutable_train()->set_resume(TrainConfig::NONE);
  CHECK(resume_candidates(config).empty());
  config.mutable_train()->set_resume(TrainConfig::AUTO);
  config.mutable_run()->set_overwrite(true);
  CHECK(resume_candidates(config).empty());
}

TEST_CASE("weights that are no numbers: skipped, then rolled back, alike on every rank", "[threads][resume]") {
  const TemporaryFolder folder(memory_folder());
  Config config = resume_config(tiny::deepseek(), folder.path());
  FaultConfig& faults_config = *config.mutable_train()->mutable_faults();
  faults_config.set_max_skips(2);
  faults_config.set_max_roll_backs(1);
  on_ranks(config, {.ranks = 2, .expert = 2}, DType::kF32, [&](ResumableRun& run, int rank) {
    using Action = StepVerdict::Action;
    FaultDetector faults(faults_config);
    run.step().set_judge([&](double loss, double norm) { return faults.judge(loss, norm, true); });
    run.open_for_saving();
    run.run_step();
    run.save();
    faults.note_checkpoint();
    run.run_step();
    RANK_CHECK(run.last().verdict.action == Action::kUpdate);
    const double good_loss = run.last().loss;
    const auto poison = [&] {
      // One rank's: what its tokens say reaches everybody through loss and norm.
      run.runtime().buckets().wait_for_weights();
      const Tensor& weights = run.runtime().buckets().buckets().front().weights;
      if (rank == 1) std::fill_n(weights.data<float>(), weights.numel(), std::nanf(""));
    };
    const std::vector<float> bias = run.runtime().model().routers()[0]->bias().to_vector<float>();
    poison();
    for (int skip = 0; skip < 2; ++skip) {
      run.run_step();
      RANK_CHECK(run.last().verdict.action == Action::kSkip);
      RANK_CHECK(contains(run.last().verdict.reason, "not finite"));
      RANK_CHECK(run.step().optimizer().num_updates() == 2);
      RANK_CHECK(run.runtime().model().routers()[0]->bias().to_vector<float>() == bias);
    }
    run.run_step();
    RANK_CHECK(run.last().verdict.action == Action::kRollBack);
    run.progress() = run.checkpoints().roll_back();
    RANK_CHECK(run.progress().step() == 1);
    RANK_CHECK(run.step().optimizer().num_updates() == 1);
    run.run_step();
    RANK_CHECK(run.last().verdict.action == Action::kUpdate);
    RANK_CHECK(run.last().loss == good_loss);
    poison();
    for (int skip = 0; skip < 2; ++skip) run.run_step();
    run.run_step();
    RANK_CHECK(run.last().verdict.action == Action::kStop);
    RANK_CHECK(contains(run.last().verdict.reason, "rolling back 1 times did not help"));
  });
}
