// tests/train/run_folder_test.cpp: a run folder is made, or refused with the reason and nothing written.
#include "core/train/run_folder.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <array>
#include <limits>
#include <vector>

#include "core/base/check.h"
#include "core/checkpoint/append_file.h"
#include "core/train/environment.h"
#include "core/train/rank_setup.h"
#include "parallel/thread_communicator.h"
#include "tests/checkpoint/checkpoint_states.h"
#include "tests/file_size_limit.h"
#include "tests/rank_check.h"
#include "tests/temporary_folder.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;

RunConfig config_of(const fs::path& dir, bool overwrite = false) {
  RunConfig config;
  config.set_dir(dir.string());
  config.set_overwrite(overwrite);
  return config;
}

TEST_CASE("a new run folder is made with its parents, and described") {
  const TemporaryFolder folder;
  const fs::path run = prepare_run_folder(config_of(folder / "runs/deep/first/"), 1000);
  CHECK(run == folder / "runs/deep/first");
  CHECK(fs::is_empty(run));
  CHECK_FALSE(holds_run(run));
  describe_run(run, "model { hidden: 2 }\n", "{}");
  CHECK(bytes_of_file(run / "config.textproto") == "model { hidden: 2 }\n");
  CHECK(bytes_of_file(run / "environment.json") == "{}\n");
  CHECK(holds_run(run));
}

TEST_CASE("the names of a run folder and of those made above it are synced, outermost first") {
  class Syncs : public QuickDisk {
   public:
    std::vector<fs::path> synced;
    void sync_directory(const Path& path) override { synced.push_back(path); }
  };
  const TemporaryFolder folder;
  Syncs first, again, gone_on;
  const RunConfig config = config_of(folder / "runs/deep/first/");
  prepare_run_folder(config, 0, first);
  CHECK(first.synced == std::vector<fs::path>{folder.path(), folder / "runs", folder / "runs/deep"});
  prepare_run_folder(config, 0, again);
  CHECK(again.synced == std::vector<fs::path>{folder / "runs/deep"});
  reopen_run_folder(config, 0, gone_on);
  CHECK(gone_on.synced == again.synced);
}

TEST_CASE("an existing folder without a run is taken as it is") {
  const TemporaryFolder folder;
  make_file(folder / "notes.txt", "mine");
  CHECK(prepare_run_folder(config_of(folder.path()), 0) == folder.path());
  CHECK(bytes_of_file(folder / "notes.txt") == "mine");
}

TEST_CASE("a folder that holds a run is refused") {
  const TemporaryFolder folder;
  for (const char* name : {"metrics.jsonl", "config.textproto", "environment.json"}) {
    const fs::path run = folder / name / "run";
    fs::create_directories(run);
    make_file(run / name, "old");
    CHECK_THROWS_WITH(prepare_run_folder(config_of(run), 0),
                      Contains("already holds a run") && Contains("run.overwrite=true") && Contains("run.1"));
    CHECK(bytes_of_file(run / name) == "old");
  }
}

TEST_CASE("what a failed start left is no run, and makes room for the next") {
  const TemporaryFolder folder;
  make_file(folder / "metrics.jsonl", "");
  make_file(folder / "config.textproto", "old");
  fs::create_directories(folder / "tensorboard");
  make_file(folder / "tensorboard/events", "old");
  make_file(folder / "notes.txt", "mine");
  CHECK_FALSE(holds_run(folder.path()));
  CHECK(prepare_run_folder(config_of(folder.path()), 0) == folder.path());
  CHECK(bytes_of_file(folder / "notes.txt") == "mine");
  CHECK(std::distance(fs::directory_iterator(folder.path()), {}) == 1);

  {
    const AppendFile live(folder / "metrics.jsonl");  // a run that has just started
    CHECK(holds_run(folder.path()));
    for (const bool overwrite : {false, true}) {
      CHECK_THROWS_WITH(prepare_run_folder(config_of(folder.path(), overwrite), 0),
                        Contains("another job is writing there"));
    }
    CHECK(fs::exists(folder / "metrics.jsonl"));
  }
  CHECK_FALSE(holds_run(folder.path()));
  fs::create_directories(folder / "final");
  CHECK_THROWS_WITH(prepare_run_folder(config_of(folder.path()), 0), Contains("already holds a run"));
}

TEST_CASE("overwrite moves the old run aside, whole") {
  const TemporaryFolder folder;
  const fs::path run = folder / "run";
  for (const std::string text : {"first", "second"}) {
    prepare_run_folder(config_of(run, true), 0);
    CHECK(fs::is_empty(run));
    make_file(run / "metrics.jsonl", text);
  }
  prepare_run_folder(config_of(run, true), 0);
  CHECK(fs::is_empty(run));
  CHECK(bytes_of_file(folder / "run.1/metrics.jsonl") == "first");
  CHECK(bytes_of_file(folder / "run.2/metrics.jsonl") == "second");
}

TEST_CASE("checkpoints make a run, whatever else is gone: never mixed with another's, never removed") {
  const TemporaryFolder folder;
  const fs::path run = folder / "run";
  fs::create_directories(run / "checkpoints/step-5");
  for (const bool with_metrics : {false, true}) {
    if (with_metrics) make_file(run / "metrics.jsonl", "");  // as a power failure may leave it
    make_file(run / "config.textproto", "old");
    CHECK(holds_run(run));
    CHECK_THROWS_WITH(prepare_run_folder(config_of(run), 0), Contains("already holds a run"));
    CHECK(bytes_of_file(run / "config.textproto") == "old");
  }
  prepare_run_folder(config_of(run, true), 0);
  CHECK(fs::is_empty(run));
  CHECK(fs::exists(folder / "run.1/checkpoints/step-5"));
  CHECK(bytes_of_file(folder / "run.1/config.textproto") == "old");
}

TEST_CASE("a run folder may be a link: what it leads to is made, and moved aside, where it is") {
  const TemporaryFolder folder;
  fs::create_directories(folder / "disk/run");
  fs::create_directory_symlink(folder / "disk/run", folder / "link");
  CHECK(prepare_run_folder(config_of(folder / "link/"), 0) == fs::canonical(folder / "disk/run"));
  make_file(folder / "disk/run/metrics.jsonl", "old");
  prepare_run_folder(config_of(folder / "link", true), 0);
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(fs::is_empty(folder / "link"));
  CHECK(bytes_of_file(folder / "disk/run.1/metrics.jsonl") == "old");
  CHECK_FALSE(fs::exists(folder / "link.1"));
  fs::create_directory_symlink(folder / "absent", folder / "dangling");
  CHECK_THROWS_WITH(prepare_run_folder(config_of(folder / "dangling"), 0),
                    Contains("dangling: is a link to") && Contains("absent, which is not there"));
}

TEST_CASE("too little space is refused with both numbers, before anything is made or moved") {
  const TemporaryFolder folder;
  const fs::path run = folder / "a/run";
  constexpr int64_t kNeeded = int64_t{1} << 62;
  CHECK_THROWS_WITH(prepare_run_folder(config_of(run), kNeeded),
                    Contains("no space left for the run folder") &&
                        Contains("4096.0 PiB (4611686018427387904 bytes)") && Contains("are available"));
  CHECK(fs::is_empty(folder.path()));
  fs::create_directories(run);
  make_file(run / "metrics.jsonl", "old");
  CHECK_THROWS_WITH(prepare_run_folder(config_of(run, true), kNeeded), Contains("no space left"));
  CHECK(bytes_of_file(run / "metrics.jsonl") == "old");
}

TEST_CASE("a run that goes on needs no space again for what it has saved") {
  const TemporaryFolder folder;
  constexpr int64_t kNeeded = int64_t{1} << 42;
  CHECK_THROWS_WITH(reopen_run_folder(config_of(folder.path()), kNeeded), Contains("no space left for the run folder"));
  fs::create_directories(folder / "checkpoints/step-5");
  make_file(folder / "checkpoints/step-5/rank-00000.safetensors", "");
  fs::resize_file(folder / "checkpoints/step-5/rank-00000.safetensors", kNeeded);  // no block of it is on the disk
  CHECK(reopen_run_folder(config_of(folder.path()), kNeeded) == folder.path());
}

TEST_CASE("impossible places are refused with a reason") {
  const TemporaryFolder folder;
  make_file(folder / "file", "");
  CHECK_THROWS_WITH(prepare_run_folder(config_of(folder / "file"), 0), Contains("is not a folder"));
  CHECK_THROWS_WITH(prepare_run_folder(config_of(folder / "file/run"), 0), Contains("file/run") && Contains("run.dir"));
  CHECK_THROWS_WITH(prepare_run_folder(config_of(""), 0), Contains("run.dir is empty"));
  // /proc is a folder in which nobody, root included, may make files.
  CHECK_THROWS_WITH(prepare_run_folder(config_of("/proc/shoal-run"), 0), Contains("run.dir /proc/shoal-run"));
  CHECK_THROWS_WITH(prepare_run_folder(config_of("/proc"), 0), Contains("cannot be written in"));
}

TEST_CASE("a full disk is not taken for a folder that is not shared") {
  const TemporaryFolder folder;
  run_thread_ranks(1, {}, [&](Communicator& world, Allocator&) {
    check_shared_folder(folder.path(), world);
    const FileSizeLimit limit(0);
    CHECK_THROWS_WITH(check_shared_folder(folder.path(), world),
                      Contains("cannot be written in") && Contains("File too large"));
  });
  CHECK(fs::is_empty(folder.path()));
}

TEST_CASE("a folder that is not shared is refused with its name and the host's", "[threads]") {
  const TemporaryFolder folder;
  std::array<std::string, 2> errors;
  const std::string ended = error_of([&] {
    run_thread_ranks(2, {}, [&](Communicator& world, Allocator&) {
      const fs::path mine = folder / fmt::format("of-rank-{}/runs/a", world.rank());  // one path, two machines
      fs::create_directories(mine);
      std::string& error = errors[static_cast<size_t>(world.rank())];
      error = error_of([&] { check_shared_folder(mine, world); });
      throw Error(error);  // as it leaves main
    });
  });
  CHECK(ended == errors[1]);
  CHECK_THAT(errors[1], Contains("of-rank-1/runs/a' on ") && Contains("is not the folder that rank 0 writes to") &&
                            Contains("mount it everywhere under the same path"));
}

TEST_CASE("the environment is JSON and says what a rerun needs") {
  const nlohmann::json json =
      nlohmann::json::parse(environment_json({.command_line = {"shoal", "train", "a \"b\"", "\xff"},
                                              .num_ranks = 2,
                                              .threads_per_rank = 3,
                                              .cpus_of_rank = {4, 5, 6},
                                              .compute = "bf16"}));
  CHECK(json["mpi_ranks"] == 2);
  CHECK(json["threads_per_rank"] == 3);
  CHECK(json["compute"] == "bf16");
  CHECK(json["command_line"][2] == "a \"b\"");
  std::array<char, 256> host{};
  REQUIRE(::gethostname(host.data(), host.size() - 1) == 0);
  CHECK(json["host"] == host.data());
  CHECK(json["cpus_of_rank_0"] == std::vector<int>{4, 5, 6});
  CHECK(json["compiler"].get<std::string>().starts_with("gcc "));
  CHECK(json["libraries"]["onednn"].get<std::string>().find('.') != std::string::npos);
  CHECK(json["date"].get<std::string>().size() == 20);
  const nlohmann::json commit = json["git_commit"];  // null outside a repository, or before its first commit
  CHECK((commit.is_null() || commit.get<std::string>().size() == 40));
}

}  // namespace
}  // namespace shoal
