// tests/checkpoint/checkpoint_folder_test.cpp: what the folder holds, who may write to it, and what is thrown away.
#include <catch2/catch.hpp>

#include <set>

#include "core/checkpoint/checkpoint_writer.h"
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

TEST_CASE("a folder that is not there holds no checkpoints") {
  const CheckpointFolder folder("/nonexistent/run");
  CHECK(folder.steps().empty());
  CHECK_FALSE(folder.has_remains());
}

TEST_CASE("steps are listed newest first, by number; other names are not steps") {
  Run run;
  CheckpointWriter writer(run.folder, run.files);
  for (const int64_t step : {9, 10, 100, 0}) run.save(writer, step);
  for (const char* name : {"step-", "step-x", "step--1", "step-01", "step-7x", "step-99999999999999999999", "STEP-3",
                           "step-12 ", "step-1.5"}) {
    fs::create_directory(run.folder.path() / name);
    make_file(run.folder.path() / name / kCommitName, "x");
  }
  fs::create_directory(run.folder.path() / "step-55");  // without COMMIT
  make_file(run.folder.path() / "step-66", "a file");
  CHECK(run.folder.steps() == Steps{100, 10, 9, 0});
  CHECK(bytes_of_file(run.folder.path() / "LATEST") == "step-0\n");
}

TEST_CASE("a save that never ended is no remains, anything that once was a checkpoint is") {
  Run run;
  {
    CheckpointWriter writer(run.folder, run.files);
    writer.begin(7);
    CHECK_FALSE(run.folder.has_remains());
    CHECK(run.folder.steps().empty());
    run.save(writer, 8);
    writer.set_aside(8);
  }
  CHECK(run.folder.has_remains());
  CHECK(run.folder.steps().empty());
}

TEST_CASE("the next run removes what was left half-done, and nothing else") {
  Run run;
  {
    CheckpointWriter writer(run.folder, run.files);
    for (const int64_t step : {10, 20}) run.save(writer, step);
    write_ranks(run.files, writer.begin(30), small_state(), 30, Split::kFlat, 2);
    writer.begin(40);
  }
  const fs::path at = run.folder.path();
  fs::create_directory(at / ".tmp-gone-step-4-0123");  // half removed
  make_file(at / ".tmp-gone-step-4-0123/rank-00000.safetensors", "x");
  fs::create_directory(at / "step-5");  // no checkpoint, but it is not known why
  make_file(at / "step-5/rank-00000.safetensors", "x");
  make_file(at / "LATEST.tmp", "half");
  fs::create_directory(at / "aside-step-3-1");
  fs::create_directory(at / "notes");
  make_file(at / "notes/mine", "x");
  make_file(at / "step-6", "a file of somebody's");
  // Links lead elsewhere: what is there is nobody's to remove.
  fs::create_directory(run.run / "elsewhere");
  make_file(run.run / "elsewhere/precious", "x");
  fs::create_directory_symlink(run.run / "elsewhere", at / "step-7");
  fs::create_directory_symlink(run.run / "elsewhere", at / ".tmp-8-1234");
  fs::create_symlink(run.run / "nowhere", at / "step-9");
  CheckpointWriter next(run.folder, run.files);
  CHECK(fs::exists(run.run / "elsewhere/precious"));
  CHECK(run.names() == std::set<std::string>{".epoch-2", ".tmp-8-1234", "LATEST", "LATEST.tmp", "aside-step-3-1",
                                             "notes", "step-10", "step-20", "step-5", "step-6", "step-7", "step-9"});
  CHECK(fs::exists(at / "step-5/rank-00000.safetensors"));
  std::string notes;
  for (const std::string& note : next.notes()) notes += note + "\n";
  CHECK(notes.find((at / "step-5").string() + ": has no COMMIT, so it is no checkpoint; it stays") != notes.npos);
  run.save(next, 30);
  CHECK(run.folder.steps() == Steps{30, 20, 10});
  CHECK(fs::exists(at / "notes/mine"));
}

TEST_CASE("a newer run fences the older, which says so and leaves nothing behind") {
  Run run;
  CheckpointWriter older(run.folder, run.files);
  run.save(older, 10);
  const fs::path staging = older.begin(20);
  const Manifest manifest = write_ranks(run.files, staging, small_state(), 20, Split::kFlat, 1);
  CheckpointWriter newer(run.folder, run.files);
  CHECK_THROWS_AS(older.check_epoch(), Fenced);
  CHECK_THROWS_AS(older.begin(30), Fenced);
  CHECK_THROWS_AS(older.commit(staging, manifest), Error);
  const std::string said = error_of([&] { older.check_epoch(); });
  CHECK(said.find("another run has taken this folder over") != std::string::npos);
  CHECK(said.find("run.dir of its own") != std::string::npos);
  newer.check_epoch();
  run.save(newer, 20);
  CHECK(run.folder.steps() == Steps{20, 10});
  CHECK(run.names() == std::set<std::string>{".epoch-2", "LATEST", "step-10", "step-20"});
}

TEST_CASE("a newer run that comes between a commit's writing and its last look fences it") {
  // The older one's staging is made anew after the newer collected it: only the fence is left to stop it.
  Run run;
  CheckpointWriter older(run.folder, run.files);
  CheckpointWriter newer(run.folder, run.files);
  const fs::path staging = run.folder.path() / ".tmp-20-late";
  fs::create_directory(staging);
  const Manifest manifest = write_ranks(run.files, staging, small_state(), 20, Split::kFlat, 1);
  CHECK_THROWS_AS(older.commit(staging, manifest), Fenced);
  CHECK(run.folder.steps().empty());
}

TEST_CASE("a run whose folder was moved aside for another does not take the other's epoch for its own") {
  Run run;
  CheckpointWriter older(run.folder, run.files);
  run.save(older, 10);
  fs::rename(run.folder.path(), run.run / "checkpoints.1");  // as run.overwrite does
  CheckpointWriter newer(run.folder, run.files);
  CHECK(run.names() == std::set<std::string>{".epoch-1"});
  CHECK_THROWS_AS(older.check_epoch(), Fenced);
  CHECK_THROWS_AS(older.begin(20), Fenced);
  newer.check_epoch();
}

TEST_CASE("the fence asks for the file itself, not for what is remembered of its name; a disk that fails is no fence") {
  // What it once saw under a name, it goes on saying is there, until that is opened.
  class Remembers : public QuickDisk {
   public:
    FileStatus status(const Path& path) override {
      return path.filename().string().starts_with(".epoch") ? FileStatus{FileKind::kFile, 9} : QuickDisk::status(path);
    }
  };
  Run run;
  Remembers files;
  CheckpointWriter older(run.folder, files);
  older.check_epoch();
  FailingFileSystem broken;
  CheckpointWriter newer(run.folder, broken);
  CHECK_THROWS_AS(older.check_epoch(), Fenced);
  broken.arm(Fault::kBrokenFromNow, 1);
  newer.check_epoch();
  CHECK(broken.has_failed());
}

TEST_CASE("epochs count up, whatever else is named like one") {
  Run run;
  fs::create_directories(run.folder.path());
  make_file(run.folder.path() / ".epoch-41", "");
  make_file(run.folder.path() / ".epoch-x", "");
  make_file(run.folder.path() / ".epoch-99999999999999999999", "");
  CheckpointWriter writer(run.folder, run.files);
  writer.check_epoch();
  CHECK(run.names() == std::set<std::string>{".epoch-42", ".epoch-99999999999999999999", ".epoch-x"});
}

TEST_CASE("a checkpoint of the same step changes places with the old, which is kept aside") {
  Run run;
  CheckpointWriter writer(run.folder, run.files);
  run.save(writer, 10);
  make_file(run.folder.of_step(10) / "rank-00000.safetensors", "damaged");
  for (int again = 0; again < 3; ++again) run.save(writer, 10);
  CHECK(run.good(10));
  CHECK(bytes_of_file(run.folder.path() / "aside-step-10-1/rank-00000.safetensors") == "damaged");
  CHECK(fault_of(run.folder.path() / "aside-step-10-3", small_state(), 10).empty());
  CHECK(run.folder.steps() == Steps{10});
}

namespace {

// Where the checkpoint of one file that was there before another of two files was put in its place lies now, whole;
// likewise the other.
struct Replaced {
  std::vector<std::string> old_one, new_one;

  explicit Replaced(const CheckpointFolder& folder) {
    for (const auto& entry : fs::directory_iterator(folder.path())) {
      const std::string name = entry.path().filename().string();
      if (!name.starts_with("step-") && !name.starts_with("aside-")) continue;
      if (!fault_of(entry.path(), small_state(), 10).empty()) continue;
      const int files = NativeCheckpoint(entry.path()).manifest().file_size();
      (files == 1 ? old_one : new_one).push_back(name);
    }
  }
};

class NoSwap : public FailingFileSystem {
 public:
  bool exchange(const Path&, const Path&) override { return false; }
};

// A save of the same step, of two files.
std::string replace(Run& run, CheckpointWriter& writer) {
  const fs::path staging = writer.begin(10);
  try {
    return writer.commit(staging, write_ranks(run.files, staging, small_state(), 10, Split::kFlat, 2));
  } catch (const Error&) {
    writer.abandon(staging);
    throw;
  }
}

}  // namespace

TEST_CASE("a disk that breaks at any call while a step is saved anew loses neither the old nor what is there") {
  for (const bool swaps : {true, false}) {
    for (const Fault fault : {Fault::kBroken, Fault::kBrokenFromNow}) {
      int64_t call = 1, failures = 0;
      for (bool reached = true; reached; ++call) {
        Run run;
        const auto files = swaps ? std::make_unique<FailingFileSystem>() : std::make_unique<NoSwap>();
        CheckpointWriter writer(run.folder, *files);
        run.save(writer, 10);
        files->arm(fault, call);
        std::string mishap;
        const std::string said = error_of([&] { mishap = replace(run, writer); });
        reached = files->has_failed();
        files->heal();
        INFO("swaps " << swaps << ", call " << call << ": " << said << mishap);
        CheckpointWriter next(run.folder, run.files);
        const Replaced there(run.folder);
        CHECK(there.old_one.size() == 1);
        if (said == "no error") CHECK(there.new_one == std::vector<std::string>{"step-10"});
        if (said != "no error") ++failures;
        // Both broken for good and unable to swap, it may be left with both aside; never with neither.
        if (swaps || fault == Fault::kBroken) CHECK(run.good(10));
        for (const std::string& name : run.names()) CHECK_FALSE(name.starts_with(".tmp-"));
      }
      WARN(call - 1 << " calls, " << failures << " saves failed");
      CHECK(failures > 10);
    }
  }
}

TEST_CASE("a failed sync of the names after a step was saved anew is told; both are there") {
  class Unsynced : public QuickDisk {
   public:
    bool armed = false;
    void sync_directory(const Path& path) override {
      if (armed && path.filename() == "checkpoints") fail("{}: the folder cannot be synced: broken", path.string());
    }
  };
  Run run;
  Unsynced files;
  CheckpointWriter writer(run.folder, files);
  run.save(writer, 10);
  files.armed = true;
  const std::string mishap = replace(run, writer);
  CHECK(mishap.find("the checkpoint is there, but may be gone after a power failure") != std::string::npos);
  CHECK(mishap.find("cannot be synced: broken") != std::string::npos);
  CHECK(Replaced(run.folder).new_one == std::vector<std::string>{"step-10"});
  CHECK(Replaced(run.folder).old_one == std::vector<std::string>{"aside-step-10-1"});
}

TEST_CASE("a file system that cannot swap names moves the old one aside first") {
  Run run;
  NoSwap files;
  CheckpointWriter writer(run.folder, files);
  run.save(writer, 10);
  CHECK(replace(run, writer).empty());
  CHECK(Replaced(run.folder).new_one == std::vector<std::string>{"step-10"});
  CHECK(Replaced(run.folder).old_one.size() == 1);
}

TEST_CASE("a hint that cannot be written is no reason to call a checkpoint failed") {
  Run run;
  CheckpointWriter writer(run.folder, run.files);
  fs::create_directory(run.folder.path() / "LATEST.tmp");
  run.save(writer, 10);
  CHECK(run.good(10));
  CHECK_FALSE(fs::exists(run.folder.path() / "LATEST"));
}

TEST_CASE("a folder that cannot be written says which and why") {
  Run run;
  make_file(run.run / "checkpoints", "a file in the way");
  const std::string said = error_of([&] { CheckpointWriter(run.folder, run.files); });
  CHECK(said.find((run.run / "checkpoints").string()) != std::string::npos);
}

TEST_CASE("what the disk does not say about a COMMIT is not taken for its absence: the checkpoint stays") {
  // One checkpoint's COMMIT cannot be looked at.
  class Mute : public QuickDisk {
   public:
    FileStatus status(const Path& path) override {
      if (path.filename() == kCommitName && path.parent_path().filename() == "step-20") {
        fail("{}: cannot be looked at: Input/output error", path.string());
      }
      return QuickDisk::status(path);
    }
  };
  Run run;
  Mute files;
  {
    CheckpointWriter writer(run.folder, run.files);
    for (const int64_t step : {10, 20}) run.save(writer, step);
  }
  CheckpointWriter next(run.folder, files);
  CHECK(run.folder.steps() == Steps{20, 10});
  CHECK(run.good(20));
  REQUIRE(next.notes().size() == 1);
  CHECK(next.notes()[0].find("step-20/COMMIT: cannot be looked at: Input/output error") != std::string::npos);
  // It is tried, and says why it cannot be loaded; then the older one is.
  CHECK(next.folder().steps() == Steps{20, 10});
  CHECK(error_of([&] { NativeCheckpoint(next.folder().of_step(20), files); }).find("Input/output") !=
        std::string::npos);
  next.retain(2, 0);
  CHECK(run.good(20));
}

TEST_CASE("a disk that breaks at any call of a start costs no checkpoint") {
  for (const Fault fault : {Fault::kBroken, Fault::kBrokenFromNow}) {
    int64_t call = 1, failures = 0;
    for (bool reached = true; reached; ++call) {
      Run run;
      FailingFileSystem files;
      {
        CheckpointWriter writer(run.folder, run.files);
        for (const int64_t step : {10, 20}) run.save(writer, step);
        write_ranks(run.files, writer.begin(30), small_state(), 30, Split::kFlat, 1);
      }
      files.arm(fault, call);
      const std::string said = error_of([&] { CheckpointWriter(run.folder, files); });
      reached = files.has_failed();
      files.heal();
      INFO("call " << call << ": " << said);
      if (said != "no error") {
        ++failures;
        CHECK(said.find("Input/output error") != std::string::npos);
        CHECK(said.find(run.run.path().string()) != std::string::npos);
      }
      CheckpointWriter next(run.folder, files);
      CHECK(run.folder.steps() == Steps{20, 10});
      for (const int64_t step : {10, 20}) CHECK(run.good(step));
      for (const std::string& name : run.names()) CHECK_FALSE(name.starts_with(".tmp-"));
    }
    WARN(call - 1 << " calls, " << failures << " starts failed");
    CHECK(call > 15);
  }
}

TEST_CASE("a disk that breaks at any call of a load is told, and nothing else is loaded") {
  for (const Fault fault : {Fault::kBroken, Fault::kBrokenFromNow}) {
    Run run;
    {
      CheckpointWriter writer(run.folder, run.files);
      for (const int64_t step : {10, 20}) run.save(writer, step);
    }
    int64_t call = 1;
    for (bool reached = true; reached; ++call) {
      FailingFileSystem files;
      const CheckpointFolder folder(run.run.path(), files);
      files.arm(fault, call);
      std::string said;
      try {
        const Steps steps = folder.steps();
        CHECK(steps == Steps{20, 10});
        said = fault_of(folder.of_step(20), small_state(), 20, Split::kFlat, 1, files);
        if (said.empty()) NativeCheckpoint(folder.of_step(20), files).verify();
      } catch (const Error& error) {
        said = error.what();
      }
      reached = files.has_failed();
      INFO("call " << call << ": " << said);
      CHECK((said.empty() || said.find("Input/output error") != std::string::npos));
      CHECK((said.empty() || said.find(run.folder.path().string()) != std::string::npos));
    }
    CHECK(call > 20);
    CHECK(run.good(20));
  }
}
