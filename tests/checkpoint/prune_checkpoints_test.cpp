// tests/checkpoint/prune_checkpoints_test.cpp: what is removed, what stays, and that each is told.
#include "core/checkpoint/prune_checkpoints.h"

#include <catch2/catch.hpp>

#include <set>

#include "core/checkpoint/manifest_text.h"
#include "tests/checkpoint/checkpoint_run.h"
#include "tests/checkpoint/failing_file_system.h"
#include "tests/rank_check.h"

using namespace shoal;

namespace fs = std::filesystem;

namespace {

using Run = CheckpointRun;
using Steps = std::vector<int64_t>;

}  // namespace

TEST_CASE("retention keeps the newest that open, those newer, and milestones; never fewer than two") {
  Run run;
  CheckpointWriter writer(run.folder, run.files);
  for (const int64_t step : {10, 20, 30, 40, 50, 60}) run.save(writer, step);
  SECTION("so many") {
    writer.retain(3, 0);
    CHECK(run.folder.steps() == Steps{60, 50, 40});
  }
  SECTION("at least two") {
    for (const int64_t keep : {0, 1, -5}) writer.retain(keep, 0);
    CHECK(run.folder.steps() == Steps{60, 50});
  }
  SECTION("more than there are") {
    writer.retain(100, 0);
    CHECK(run.folder.steps().size() == 6);
  }
  SECTION("milestones") {
    writer.retain(2, 20);
    CHECK(run.folder.steps() == Steps{60, 50, 40, 20});
  }
  SECTION("broken ones do not count, and the newest stay to be looked at") {
    fs::remove(run.folder.of_step(60) / "rank-00000.safetensors");
    make_file(run.folder.of_step(40) / kManifestName, "format: 1");
    writer.retain(2, 0);
    CHECK(run.folder.steps() == Steps{60, 50, 40, 30});
    CHECK(run.good(50));
    CHECK(run.good(30));
  }
  SECTION("all broken") {
    for (const int64_t step : run.folder.steps())
      fs::resize_file(run.folder.of_step(step) / "rank-00000.safetensors", 9);
    writer.retain(2, 0);
    CHECK(run.folder.steps().size() == 6);
  }
  SECTION("links are not followed") {
    fs::rename(run.folder.of_step(10), run.run / "elsewhere");
    fs::create_directory_symlink(run.run / "elsewhere", run.folder.of_step(10));
    writer.retain(2, 0);
    CHECK(fault_of(run.run / "elsewhere", small_state(), 10).empty());
  }
}

namespace {

// Of the right size, but not what was written.
void flip_a_byte(const fs::path& file) {
  std::string bytes = bytes_of_file(file);
  bytes.back() ^= 1;
  make_file(file, bytes);
}

// Counts the bytes that are read of ranks' files.
class CountingDisk : public QuickDisk {
 public:
  int64_t opened = 0;
  std::unique_ptr<ReadableFile> open(const Path& path) override {
    if (path.filename().string().starts_with("rank-")) ++opened;
    return QuickDisk::open(path);
  }
};

}  // namespace

TEST_CASE("pruning by hand reads what is to stay: what is damaged does not count") {
  Run run;
  {
    CheckpointWriter writer(run.folder, run.files);
    for (const int64_t step : {10, 20, 30, 40, 50, 60}) run.save(writer, step);
  }
  for (const int64_t step : {50, 60}) flip_a_byte(run.folder.of_step(step) / "rank-00000.safetensors");
  SECTION("two sound ones stay") {
    CHECK(prune_checkpoints(run.folder, {.keep = 2, .only_tell = true}).removed == Steps{20, 10});
    const Pruned pruned = prune_checkpoints(run.folder, {.keep = 2});
    CHECK(pruned.removed == Steps{20, 10});
    CHECK(pruned.mishaps.empty());
    REQUIRE(pruned.damaged.size() == 2);
    CHECK(pruned.damaged[0].find("step-60/rank-00000.safetensors") != std::string::npos);
    CHECK(run.folder.steps() == Steps{60, 50, 40, 30});
    CHECK(run.good(40));
    CHECK(run.good(30));
  }
  SECTION("one sound one is too few for any to go") {
    for (const int64_t step : {10, 20, 30}) flip_a_byte(run.folder.of_step(step) / "rank-00000.safetensors");
    CHECK(prune_checkpoints(run.folder, {.keep = 2}).removed.empty());
    CHECK(run.folder.steps().size() == 6);
  }
}

TEST_CASE("a run's retention reads no data, and relies on two that it wrote or loaded itself") {
  Run run;
  {
    CheckpointWriter writer(run.folder, run.files);
    for (const int64_t step : {10, 20, 30, 40, 50}) run.save(writer, step);
  }
  for (const int64_t step : {40, 50}) flip_a_byte(run.folder.of_step(step) / "rank-00000.safetensors");
  CountingDisk files;
  CheckpointWriter writer(run.folder, files);
  writer.retain(2, 0);  // both of the newest open
  CHECK(run.folder.steps() == Steps{50, 40, 30, 20, 10});
  writer.note_soundness(30, true);
  writer.retain(2, 0);
  CHECK(run.folder.steps() == Steps{50, 40, 30, 20, 10});
  run.save(writer, 60);
  writer.retain(2, 0);
  CHECK(run.folder.steps() == Steps{60, 50, 40, 30});
  CHECK(run.good(60));
  CHECK(run.good(30));
  run.save(writer, 70);
  writer.retain(3, 0);
  CHECK(run.folder.steps() == Steps{70, 60, 50});
  CHECK(files.opened == 0);
  // Moved aside, it is relied on no longer.
  writer.set_aside(70);
  writer.retain(2, 0);
  CHECK(run.folder.steps() == Steps{60, 50});
}

TEST_CASE("what cannot be removed is told, and not called removed") {
  Run run;
  CheckpointWriter writer(run.folder, run.files);
  for (const int64_t step : {10, 20, 30, 40}) run.save(writer, step);
  SECTION("a folder inside: nothing of it is touched") {
    fs::create_directory(run.folder.of_step(20) / "mine");
    const Pruned pruned = prune_checkpoints(run.folder, {.keep = 2});
    CHECK(pruned.removed == Steps{10});
    REQUIRE(pruned.mishaps.size() == 1);
    CHECK(pruned.mishaps[0].find("step-20: holds a folder, mine") != std::string::npos);
    CHECK(run.good(20));
    CHECK(run.folder.steps() == Steps{40, 30, 20});
  }
  SECTION("a disk that breaks at any call") {
    int64_t call = 1;
    for (bool reached = true; reached; ++call) {
      FailingFileSystem files;
      for (const int64_t step : {10, 20}) {
        if (!run.good(step)) run.save(writer, step);
      }
      files.arm(Fault::kBroken, call);
      Pruned pruned;
      const std::string said =
          error_of([&] { pruned = prune_checkpoints(CheckpointFolder(run.run.path(), files), {.keep = 2}); });
      reached = files.has_failed();
      INFO("call " << call << ": " << said);
      const std::set<int64_t> removed(pruned.removed.begin(), pruned.removed.end());
      for (const int64_t step : {10, 20}) {
        CHECK((run.good(step) || !fs::exists(run.folder.of_step(step))));
        if (removed.contains(step)) CHECK_FALSE(fs::exists(run.folder.of_step(step)));
        if (!removed.contains(step)) CHECK((said != "no error" || !pruned.mishaps.empty() || run.good(step)));
      }
      if (!reached) CHECK(removed.size() == 2);
      CHECK(run.good(30));
      CHECK(run.good(40));
    }
    CHECK(call > 15);
  }
}

TEST_CASE("what no run removes goes when it is asked for, where two checkpoints are sound") {
  Run run;
  {
    CheckpointWriter writer(run.folder, run.files);
    for (const int64_t step : {10, 20, 30, 40}) run.save(writer, step);
    for (const int64_t step : {10, 40}) writer.set_aside(step);
  }
  const fs::path at = run.folder.path();
  fs::create_directory(at / "step-50");  // without COMMIT
  make_file(at / "step-50/rank-00000.safetensors", "x");
  make_file(at / "step-60", "a file");
  fs::create_directory(at / "notes");
  const std::vector<std::string> folders{"aside-step-10-1", "aside-step-40-1", "step-50"};
  SECTION("only told") {
    const Pruned pruned = prune_checkpoints(run.folder, {.keep = 2, .remains = true, .only_tell = true});
    CHECK(pruned.remains.size() == 4);
    CHECK(run.names().contains("aside-step-10-1"));
  }
  SECTION("removed") {
    const Pruned pruned = prune_checkpoints(run.folder, {.keep = 2, .remains = true});
    CHECK(pruned.remains == folders);
    REQUIRE(pruned.mishaps.size() == 1);
    CHECK(pruned.mishaps[0].find("step-60: is no folder; it is not removed") != std::string::npos);
    CHECK(run.names() == std::set<std::string>{".epoch-1", "LATEST", "notes", "step-20", "step-30", "step-60"});
    CHECK(run.good(20));
  }
  SECTION("not asked for") {
    CHECK(prune_checkpoints(run.folder, {.keep = 2}).remains.empty());
    for (const std::string& name : folders) CHECK(run.names().contains(name));
  }
  SECTION("one sound checkpoint is too few") {
    flip_a_byte(run.folder.of_step(30) / "rank-00000.safetensors");
    const Pruned pruned = prune_checkpoints(run.folder, {.keep = 2, .remains = true});
    CHECK(pruned.remains.empty());
    CHECK(pruned.mishaps.size() == 4);
    CHECK(fault_of(at / "aside-step-40-1", small_state(), 40).empty());
  }
}
