// tests/checkpoint/checkpoint_saver_test.cpp: ranks save together; whatever fails, on any rank, costs that save only.
#include "core/checkpoint/checkpoint_saver.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <mutex>

#include "core/checkpoint/finite_values.h"
#include "parallel/thread_communicator.h"
#include "tests/checkpoint/failing_file_system.h"
#include "tests/rank_check.h"
#include "tests/temporary_folder.h"

using namespace shoal;

namespace fs = std::filesystem;

namespace {

using Steps = std::vector<int64_t>;

struct Saved {
  TemporaryFolder run{memory_folder()};
  FailingFileSystem files;
  CheckpointFolder folder{run.path()};
  CheckpointConfig config;
  std::vector<StateTensorSpec> specs = small_state();

  void run_ranks(int ranks, const std::function<void(Communicator&, CheckpointSaver&)>& body) {
    run_thread_ranks(ranks, {}, [&](Communicator& world, Allocator& allocator) {
      CheckpointSaver saver(run.path(), config, world, allocator, files);
      body(world, saver);
    });
  }
  std::vector<StatePiece> pieces(int64_t step, const Communicator& world) const {
    return pieces_of(specs, step, Split::kShardsThenFlat, world.rank(), world.size());
  }
  // Collective. A whole save, and what came of it, on rank 0.
  std::vector<SaveReport> save(CheckpointSaver& saver, Communicator& world, int64_t step) const {
    saver.begin(head_of(step), pieces(step, world));
    if (saver.in_flight()) saver.finish();
    return saver.take_reports(true);
  }
  bool good(int64_t step) const { return fault_of(folder.of_step(step), specs, step).empty(); }
  std::vector<std::string> leftovers() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder.path())) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with(".tmp-")) names.push_back(name);
    }
    return names;
  }
};

bool contains(const std::string& text, const std::string& words) { return text.find(words) != std::string::npos; }

}  // namespace

TEST_CASE("what is saved is what was there at begin(), asynchronous or not", "[threads]") {
  for (const bool asynchronous : {true, false}) {
    for (const int ranks : {1, 2, 3, 4}) {
      Saved saved;
      saved.config.set_asynchronous(asynchronous);
      saved.config.set_keep(10);
      saved.run_ranks(ranks, [&](Communicator& world, CheckpointSaver& saver) {
        for (const int64_t step : {5, 10, 15}) {
          const auto pieces = saved.pieces(step, world);
          saver.begin(head_of(step), pieces);
          RANK_CHECK(saver.in_flight());
          if (asynchronous) {
            for (const StatePiece& piece : pieces) {
              std::memset(piece.values.raw(), 0xFF, static_cast<size_t>(piece.values.bytes()));
            }
          }
          if (step == 10) continue;  // the next begin() finishes it
          saver.finish();
          RANK_CHECK(!saver.in_flight());
        }
        const auto reports = saver.take_reports(true);
        RANK_CHECK(reports.size() == (world.rank() == 0 ? 3u : 0u));
        for (const SaveReport& report : reports) {
          RANK_CHECK(report.mishap.empty());
          RANK_CHECK(report.path == saved.folder.of_step(report.step).string());
          RANK_CHECK(report.bytes > 0);
        }
      });
      CHECK(saved.folder.steps() == Steps{15, 10, 5});
      for (const int64_t step : saved.folder.steps()) {
        CHECK(fault_of(saved.folder.of_step(step), saved.specs, step, Split::kColumns, 3).empty());
      }
      CHECK(NativeCheckpoint(saved.folder.of_step(15)).manifest().file_size() == ranks);
      CHECK(saved.leftovers().empty());
    }
  }
}

TEST_CASE("rank 0 alone keeps what the config says", "[threads]") {
  Saved saved;
  saved.config.set_keep(2);
  saved.config.set_keep_every_steps(20);
  saved.run_ranks(2, [&](Communicator& world, CheckpointSaver& saver) {
    for (int64_t step = 10; step <= 60; step += 10) saved.save(saver, world, step);
  });
  CHECK(saved.folder.steps() == Steps{60, 50, 40, 20});
}

TEST_CASE("a disk that breaks at any call costs one save: the others stay, the next succeeds", "[threads][disk]") {
  for (const Fault fault : {Fault::kBroken, Fault::kBrokenFromNow, Fault::kFull, Fault::kFullFromNow}) {
    for (const bool asynchronous : {true, false}) {
      int64_t failures = 0, call = 1;
      for (bool reached = true; reached; ++call) {
        Saved saved;
        saved.config.set_asynchronous(asynchronous);
        std::vector<SaveReport> reports;
        saved.run_ranks(2, [&](Communicator& world, CheckpointSaver& saver) {
          for (const int64_t step : {10, 20, 30}) saved.save(saver, world, step);
          wait(world.barrier());
          if (world.rank() == 0) saved.files.arm(fault, call);
          wait(world.barrier());
          const auto second = saved.save(saver, world, 40);
          wait(world.barrier());
          if (world.rank() == 0) {
            reached = saved.files.has_failed();
            saved.files.heal();
            reports = second;
          }
          wait(world.barrier());
          const auto third = saved.save(saver, world, 50);
          RANK_CHECK(world.rank() != 0 || (third.size() == 1 && third[0].mishap.empty() && !third[0].path.empty()));
        });
        INFO("call " << call << ", fault " << static_cast<int>(fault));
        const Steps steps = saved.folder.steps();
        for (const int64_t step : steps) CHECK(saved.good(step));
        CHECK(steps[0] == 50);
        REQUIRE(reports.size() == 1);
        if (reports[0].path.empty()) {
          CHECK(contains(reports[0].mishap, fault == Fault::kBroken || fault == Fault::kBrokenFromNow
                                                ? "Input/output error"
                                                : "No space left on device"));
          CHECK(contains(reports[0].mishap, saved.folder.path().string()));
          // 40 is there where only the last sync of its name failed. It may be: it is whole.
          CHECK(std::ranges::count(steps, 30) == 1);
          ++failures;
        } else {
          CHECK(std::ranges::count(steps, 40) == 1);
        }
        CheckpointWriter next(saved.folder, saved.files);
        CHECK(saved.leftovers().empty());
      }
      WARN(call << " calls, " << failures << " saves failed");
      CHECK(failures > 20);
    }
  }
}

TEST_CASE("a disk that is full after any 64 KiB costs one save, and its own files only", "[threads][disk]") {
  int64_t failures = 0;
  for (int64_t bytes = 0;; bytes += 64 << 10) {
    Saved saved;
    saved.specs = state_with(400'000);
    bool reached = false;
    saved.run_ranks(2, [&](Communicator& world, CheckpointSaver& saver) {
      saved.save(saver, world, 10);
      wait(world.barrier());
      if (world.rank() == 0) saved.files.arm_bytes(bytes);
      wait(world.barrier());
      const auto reports = saved.save(saver, world, 20);
      wait(world.barrier());
      if (world.rank() == 0) {
        reached = saved.files.has_failed();
        RANK_CHECK(reached == reports[0].path.empty());
        RANK_CHECK(!reached || contains(reports[0].mishap, "No space left on device"));
        RANK_CHECK(saved.leftovers().empty());
        saved.files.heal();
      }
      wait(world.barrier());
      saved.save(saver, world, 30);
    });
    CHECK(saved.folder.steps() == (reached ? Steps{30, 10} : Steps{30, 20, 10}));
    for (const int64_t step : saved.folder.steps()) CHECK(saved.good(step));
    if (!reached) break;
    ++failures;
  }
  CHECK(failures >= 24);
}

TEST_CASE("no room for all ranks' files is found before anything is written", "[threads]") {
  Saved saved;
  saved.files.set_free_bytes(5000);
  saved.run_ranks(2, [&](Communicator& world, CheckpointSaver& saver) {
    const auto reports = saved.save(saver, world, 10);
    RANK_CHECK(!saver.in_flight());
    if (world.rank() == 0) {
      RANK_CHECK(reports.size() == 1 && reports[0].path.empty());
      RANK_CHECK(contains(reports[0].mishap, "5000 are available"));
    }
    wait(world.barrier());
    if (world.rank() == 0) RANK_CHECK(saved.leftovers().empty());
    wait(world.barrier());
    if (world.rank() == 0) saved.files.set_free_bytes(1 << 30);  // rank 0 asks
    RANK_CHECK(saved.save(saver, world, 20).size() == (world.rank() == 0 ? 1u : 0u));
  });
  CHECK(saved.folder.steps() == Steps{20});
}

TEST_CASE("where values are no numbers they are found, whatever their place and dtype") {
  const double bad[] = {std::nan(""), -std::nan(""), std::numeric_limits<double>::infinity(),
                        -std::numeric_limits<double>::infinity()};
  const double good[] = {std::numeric_limits<float>::max() / 2, -0.0, std::numeric_limits<float>::denorm_min(), -1};
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    for (const int64_t count : {1, 2, 31, 4096, 4097, 10'000}) {
      const Tensor values = Tensor::zeros({count}, dtype, test_host(), MemoryKind::kWorkspace);
      dispatch_floating(dtype, [&]<class T>(T) {
        T* const data = values.data<T>();
        for (int64_t i = 0; i < count; ++i) data[i] = static_cast<T>(good[i % 4]);
        CHECK(first_not_finite(values.raw(), count, dtype) == -1);
        for (const int64_t at : {int64_t{0}, count / 3, count - 1}) {
          for (const double value : bad) {
            const T before = data[at];
            data[at] = static_cast<T>(value);
            CHECK(first_not_finite(values.raw(), count, dtype) == at);
            data[at] = before;
          }
        }
      });
    }
  }
  const std::vector<int64_t> ones(9, -1);  // every bit set, and no float
  CHECK(first_not_finite(ones.data(), 9, DType::kI64) == -1);
}

TEST_CASE("a state with values that are no numbers is no checkpoint; every rank hears where they are", "[threads]") {
  struct Case {
    const char* tensor;
    int rank;
    int64_t element;  // of what the rank holds
    const char* said;
  };
  // By columns: rank 1 of 2 holds columns 4 to 7 of [6, 8].
  const Case cases[] = {{"layers.0.q", 1, 4 * 2 + 3, "rank 1: tensor \"layers.0.q\": element [2, 7] is nan"},
                        {"layers.0.q/m", 0, 5, "rank 0: tensor \"layers.0.q/m\": element [1, 1] is nan"},
                        {"layers.0.q/v", 1, 0, "rank 1: tensor \"layers.0.q/v\": element [0, 4] is nan"},
                        {"router.bias", 1, 1, "rank 1: tensor \"router.bias\": element ["}};
  for (const bool asynchronous : {true, false}) {
    for (const Case& one : cases) {
      Saved saved;
      saved.config.set_asynchronous(asynchronous);
      saved.run_ranks(2, [&](Communicator& world, CheckpointSaver& saver) {
        saved.save(saver, world, 10);
        RANK_CHECK(saver.take_bad_state().empty());
        const auto pieces = pieces_of(saved.specs, 20, Split::kColumns, world.rank(), 2);
        for (const StatePiece& piece : pieces) {
          if (piece.name != one.tensor || world.rank() != one.rank) continue;
          dispatch_floating(piece.values.dtype(),
                            [&]<class T>(T) { piece.values.data<T>()[one.element] = static_cast<T>(std::nan("")); });
        }
        saver.begin(head_of(20), pieces);
        saver.finish();
        RANK_CHECK(saver.take_reports(true).empty());
        const std::string bad = saver.take_bad_state();
        RANK_CHECK(contains(bad, std::string("the state of step 20 is not saved: ") + one.said));
        RANK_CHECK(saver.take_bad_state().empty());
        if (world.rank() == 0) RANK_CHECK(saved.leftovers().empty());
        wait(world.barrier());
        saved.save(saver, world, 30);
      });
      CHECK(saved.folder.steps() == Steps{30, 10});
      CHECK(saved.good(10));
      CHECK(saved.good(30));
    }
  }
}

TEST_CASE("the very same checkpoint is not saved twice; a damaged or another one is replaced", "[threads]") {
  Saved saved;
  saved.run_ranks(2, [&](Communicator& world, CheckpointSaver& saver) {
    saved.save(saver, world, 10);
    RANK_CHECK(saved.save(saver, world, 10).empty());
  });
  CHECK_FALSE(fs::exists(saved.folder.path() / "aside-step-10-1"));
  std::string bytes = bytes_of_file(saved.folder.of_step(10) / "rank-00001.safetensors");
  bytes.back() ^= 1;
  make_file(saved.folder.of_step(10) / "rank-00001.safetensors", bytes);
  saved.run_ranks(2, [&](Communicator& world, CheckpointSaver& saver) { saved.save(saver, world, 10); });
  CHECK(saved.good(10));
  CHECK(fs::exists(saved.folder.path() / "aside-step-10-1"));
  saved.run_ranks(2, [&](Communicator& world, CheckpointSaver& saver) {
    Manifest head = head_of(10);
    head.mutable_progress()->set_skipped_sequences(7);
    saver.begin(head, saved.pieces(10, world));
    saver.finish();
  });
  CHECK(saved.good(10));
  CHECK(NativeCheckpoint(saved.folder.of_step(10)).manifest().progress().skipped_sequences() == 7);
  CHECK(fs::exists(saved.folder.path() / "aside-step-10-2"));
}

TEST_CASE("a run that goes back to a step moves those after it aside", "[threads]") {
  Saved saved;
  saved.run_ranks(2, [&](Communicator& world, CheckpointSaver& saver) {
    for (const int64_t step : {10, 20, 30}) saved.save(saver, world, step);
    saver.set_aside_after(10);
  });
  CHECK(saved.folder.steps() == Steps{10});
  CHECK(fs::exists(saved.folder.path() / "aside-step-30-1"));
}

TEST_CASE("a save nobody finished leaves nothing", "[threads]") {
  Saved saved;
  saved.run_ranks(2, [&](Communicator& world, CheckpointSaver& saver) {
    saved.save(saver, world, 10);
    saver.begin(head_of(20), saved.pieces(20, world));
    while (!saver.written()) std::this_thread::yield();
    wait(world.barrier());
  });
  CHECK(saved.leftovers().empty());
  CHECK(saved.folder.steps() == Steps{10});
}

TEST_CASE("a newer run ends the older at its next call, whatever it was doing, with one sentence", "[threads]") {
  for (const int moment : {0, 1, 2}) {
    Saved saved;
    const auto error = error_of([&] {
      saved.run_ranks(2, [&](Communicator& world, CheckpointSaver& saver) {
        saved.save(saver, world, 10);
        const auto take_over = [&] {
          wait(world.barrier());
          if (world.rank() == 0) CheckpointWriter(saved.folder, saved.files);
          wait(world.barrier());
        };
        if (moment == 0) take_over();
        saver.begin(head_of(20), saved.pieces(20, world));
        if (moment == 1) take_over();
        while (!saver.written()) std::this_thread::yield();
        if (moment == 2) take_over();
        saver.finish();
        saver.take_reports(true);
        wait(world.barrier());
      });
    });
    INFO(moment << ": " << error);
    CHECK(contains(error, "another run has taken this folder over"));
    CHECK(saved.folder.steps() == Steps{10});
    CheckpointWriter next(saved.folder, saved.files);
    CHECK(saved.leftovers().empty());
  }
}
