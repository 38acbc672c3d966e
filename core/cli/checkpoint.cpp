// core/cli/checkpoint.cpp: `shoal checkpoint`: what a run has saved, whether it is whole, and what it holds.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "core/base/check.h"
#include "core/checkpoint/append_file.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/compare_checkpoints.h"
#include "core/checkpoint/data_record.h"
#include "core/checkpoint/final_model.h"
#include "core/checkpoint/manifest_text.h"
#include "core/checkpoint/native_checkpoint.h"
#include "core/checkpoint/prune_checkpoints.h"
#include "core/cli/commands.h"
#include "core/config/compare.h"
#include "core/config/load.h"
#include "core/train/progress.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string path;
  std::string other;
  int64_t step = -1;
  int64_t keep = 3;
  int64_t keep_every = 0;
  bool config = false;
  bool tensors = false;
  bool remains = false;
  bool dry_run = false;
};

constexpr const char* kDescription = R"(Checkpoints of a run: RUN/checkpoints/step-N.

  shoal checkpoint list runs/a                    all of them, whether they open, and what else lies there
  shoal checkpoint verify runs/a                  reads every byte of every one and compares checksums
  shoal checkpoint show runs/a --step 2000        progress, layout, files, tensors (--tensors), config (--config)
  shoal checkpoint diff runs/a runs/b             where two differ: progress, config, tensors
  shoal checkpoint prune runs/a --keep 2          removes old ones, once every byte of those that stay was read

RUN may be a run folder, its checkpoints/, or one step-N. `shoal train` goes on from the newest good one by itself.)";

std::string layout_text(const SavedLayout& layout) {
  if (layout.ranks() == 0) return "imported: no ranks have trained it";
  return fmt::format("{} rank(s): data {}, tensor {}, expert {}, expert_tensor {}; computed in {}", layout.ranks(),
                     layout.data(), layout.tensor(), layout.expert(), layout.expert_tensor(), layout.compute());
}

int64_t bytes_of(const Manifest& manifest) {
  int64_t bytes = 0;
  for (const StoredFile& file : manifest.file()) bytes += file.bytes();
  return bytes;
}

// When COMMIT was written, or without one the folder; local time.
std::string date_of(const fs::path& checkpoint) {
  std::error_code error;
  auto written = fs::last_write_time(checkpoint / kCommitName, error);
  if (error) written = fs::last_write_time(checkpoint, error);
  if (error) return "?";
  const auto system = std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::file_clock::to_sys(written));
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::localtime(std::chrono::system_clock::to_time_t(system)));
}

void check_is_folder(const std::string& path) {
  constexpr const char* kExpected = "a run folder with checkpoints/step-N, or such a step-N itself";
  std::error_code ignored;
  if (!fs::exists(path, ignored)) fail("{}: does not exist; expected {}", path, kExpected);
  if (!fs::is_directory(path, ignored)) fail("{}: is a file; expected {}", path, kExpected);
}

fs::path without_slash(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }

[[noreturn]] void fail_without_checkpoint(const std::string& path, const CheckpointFolder& folder) {
  if (without_slash(path).filename().string().starts_with("step-")) {
    fail("{}: has neither {} nor {}: no checkpoint, or no longer one", path, kManifestName, kCommitName);
  }
  fail("{}: holds no checkpoint (looked in {})", path, folder.path().string());
}

std::vector<fs::path> all_of(const std::string& path) {
  if (is_checkpoint_folder(path)) return {without_slash(path)};
  const CheckpointFolder folder(run_of_checkpoint(path));
  std::vector<fs::path> checkpoints;
  for (const int64_t step : folder.steps()) checkpoints.push_back(folder.of_step(step));
  if (checkpoints.empty()) fail_without_checkpoint(path, folder);
  return checkpoints;
}

void list_checkpoint(const fs::path& path) {
  const std::string name = path.filename();
  try {
    const NativeCheckpoint checkpoint(path);
    const Manifest& manifest = checkpoint.manifest();
    fmt::print("{:<20} {:<19} {:>10} {:>6} {:>16}  opens; data not read\n", name, date_of(path),
               format_bytes(bytes_of(manifest)), manifest.layout().ranks(), format_count(manifest.progress().tokens()));
  } catch (const Error& error) {
    fmt::print("{:<20} {:<19} {:>10} {:>6} {:>16}  cannot be loaded: {}\n", name, date_of(path), "", "", "",
               error.what());
  }
}

// What is in the folder beside checkpoints, and why.
const char* remains_text(EntryKind kind) {
  switch (kind) {
    case EntryKind::kUncommitted: return "no checkpoint: has no COMMIT; nothing removes it but prune --remains";
    case EntryKind::kAside: return "moved aside, never loaded; nothing removes it but prune --remains";
    case EntryKind::kStaging: return "being written or removed, or what is left of that; the next run removes it";
    case EntryKind::kCheckpoint:
    case EntryKind::kOther: break;
  }
  return nullptr;
}

void list_remains(const CheckpointFolder& folder, const FolderEntry& entry) {
  if (remains_text(entry.kind) == nullptr) return;
  std::string size = "?";
  try {
    int64_t bytes = 0;
    for (const std::string& name : disk().list(folder.path() / entry.name)) {
      bytes += disk().status(folder.path() / entry.name / name).bytes;
    }
    size = format_bytes(bytes);
  } catch (const Error&) {  // a file, a link, or a disk that does not say
  }
  fmt::print("{:<20} {:<19} {:>10} {:>6} {:>16}  {}\n", entry.name, date_of(folder.path() / entry.name), size, "", "",
             remains_text(entry.kind));
}

void list(const Options& options) {
  const auto print_head = [] {
    fmt::print("{:<20} {:<19} {:>10} {:>6} {:>16}  state\n", "name", "written", "size", "ranks", "tokens");
  };
  if (is_checkpoint_folder(options.path)) {
    print_head();
    return list_checkpoint(without_slash(options.path));
  }
  const CheckpointFolder folder(run_of_checkpoint(options.path));
  const std::vector<FolderEntry> entries = folder.entries();
  if (std::ranges::none_of(entries, [](const FolderEntry& entry) { return entry.kind != EntryKind::kOther; })) {
    fail_without_checkpoint(options.path, folder);
  }
  print_head();
  for (const int64_t step : folder.steps()) list_checkpoint(folder.of_step(step));
  for (const FolderEntry& entry : entries) list_remains(folder, entry);
  for (const fs::path& aside : final_models_aside(folder.path().parent_path())) {
    fmt::print(
        "{:<20} {:<19} {:>10} {:>6} {:>16}  a final/ that was moved aside, beside checkpoints/; nothing removes it\n",
        aside.filename().string(), date_of(aside), "", "", "");
  }
}

void verify(const Options& options) {
  int64_t damaged = 0;
  for (const fs::path& path : all_of(options.path)) {
    try {
      const auto begin = std::chrono::steady_clock::now();
      const int64_t bytes = NativeCheckpoint(path).verify();
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      fmt::print("{}: whole: {} read in {:.2f} s, {:.2f} GB/s\n", path.string(), format_bytes(bytes), seconds,
                 static_cast<double>(bytes) * 1e-9 / seconds);
    } catch (const Error& error) {
      ++damaged;
      fmt::print("{}: DAMAGED: {}\n", path.string(), error.what());
    }
    std::fflush(stdout);
  }
  if (damaged > 0) fail("{} checkpoint(s) of {} are damaged", damaged, options.path);
}

void show(const Options& options) {
  const NativeCheckpoint checkpoint(find_checkpoint(options.path, options.step));
  const Manifest& manifest = checkpoint.manifest();
  const Progress& progress = manifest.progress();
  fmt::print("{}, written {}\n", checkpoint.directory().string(), date_of(checkpoint.directory()));
  fmt::print("step {}, {} updates, {} sequences, {} tokens, seed {}\n", progress.step(), progress.updates(),
             format_count(progress.sequences()), format_count(progress.tokens()), progress.seed());
  if (progress.training_seconds() > 0) fmt::print("trained for {}\n", format_duration(progress.training_seconds()));
  if (progress.skipped_steps() > 0 || progress.roll_backs() > 0 || progress.skipped_sequences() > 0) {
    fmt::print("{} steps skipped, {} roll-backs, {} sequences passed over\n", progress.skipped_steps(),
               progress.roll_backs(), format_count(progress.skipped_sequences()));
  }
  fmt::print("{}\n", layout_text(manifest.layout()));
  const DataFingerprint data = from_record(manifest.data());
  for (size_t i = 0; i < data.train.size(); ++i) fmt::print("data.train[{}]: {}\n", i, describe(data.train[i]));
  if (!data.tokenizer.empty()) fmt::print("data.tokenizer: {}\n", data.tokenizer);
  int64_t weights = 0;
  for (const StateTensor& tensor : manifest.tensor()) {
    if (tensor.name().find('/') == std::string::npos) weights += numel_of(tensor);
  }
  fmt::print("{} files, {}; {} tensors, {} weights\n", manifest.file_size(), format_bytes(bytes_of(manifest)),
             manifest.tensor_size(), format_count(weights));
  for (const StoredFile& file : manifest.file()) {
    fmt::print("  {:<24} {:>14} bytes  xxh3_128 {}\n", file.name(), format_count(file.bytes()), file.xxh3_128());
  }
  if (options.tensors) {
    for (const StateTensor& tensor : manifest.tensor()) {
      fmt::print("  {:<48} {:<5} [{}] in {} piece(s)\n", tensor.name(), tensor.dtype(), fmt::join(tensor.shape(), ", "),
                 tensor.piece_size());
    }
  }
  if (options.config) fmt::print("{}", manifest.config());
}

void diff(const Options& options) {
  const NativeCheckpoint a(find_checkpoint(options.path, options.step));
  const NativeCheckpoint b(find_checkpoint(options.other, options.step));
  fmt::print("a: {}, step {}, {}\nb: {}, step {}, {}\n", a.directory().string(), a.manifest().progress().step(),
             layout_text(a.manifest().layout()), b.directory().string(), b.manifest().progress().step(),
             layout_text(b.manifest().layout()));
  const std::string of_a = a.directory() / "(config)", of_b = b.directory() / "(config)";
  const std::vector<ConfigChange> changes = compare_configs(parse_config(a.manifest().config(), of_a).config,
                                                            parse_config(b.manifest().config(), of_b).config);
  fmt::print("config: {}\n{}", changes.empty() ? "equal" : "differs", describe(changes));
  if (a.manifest().has_data() && b.manifest().has_data()) {
    const std::vector<ConfigChange> other =
        compare_data(from_record(a.manifest().data()), from_record(b.manifest().data()), {});
    fmt::print("data: {}\n{}", other.empty() ? "equal" : "differ", describe(other));
  }
  const std::vector<TensorDifference> differences = compare_checkpoints(a, b);
  if (differences.empty()) fmt::print("tensors: all equal to the bit\n");
  for (const TensorDifference& one : differences) {
    if (!one.note.empty()) {
      fmt::print("  {:<48} {}\n", one.name, one.note);
    } else {
      fmt::print("  {:<48} {} of {} differ, by {:.3g} at most, {}\n", one.name, format_count(one.differing),
                 format_count(one.numel), one.largest,
                 one.a_is_zero ? "all zero in a" : fmt::format("{:.3g} of the norm", one.relative));
    }
  }
}

void prune(const Options& options) {
  if (is_checkpoint_folder(options.path)) {
    fail("{}: is one checkpoint; expected its run's folder, whose old checkpoints go", options.path);
  }
  const fs::path run = run_of_checkpoint(options.path);
  if (!CheckpointFolder(run).has_remains()) {
    fail("{}: holds no checkpoint (looked in {})", options.path, CheckpointFolder(run).path().string());
  }
  if (is_being_appended_to(run / "metrics.jsonl")) {
    fail("{}: a job is writing there, and removes old checkpoints by itself (checkpoint.keep)", run.string());
  }
  const Pruned pruned = prune_checkpoints(CheckpointFolder(run), {.keep = options.keep,
                                                                  .keep_every_steps = options.keep_every,
                                                                  .remains = options.remains,
                                                                  .only_tell = options.dry_run});
  const std::vector<int64_t>& steps = pruned.removed;
  fmt::print("{} {} checkpoint(s)", options.dry_run ? "would remove" : "removed", steps.size());
  for (size_t i = 0; i < steps.size(); ++i) fmt::print("{}step-{}", i == 0 ? ": " : ", ", steps[i]);
  fmt::print("\n");
  for (const std::string& name : pruned.remains) fmt::print("{}: {}\n", options.dry_run ? "too" : "removed", name);
  for (const std::string& damage : pruned.damaged) fmt::print("stays, and does not count: {}\n", damage);
  for (const std::string& mishap : pruned.mishaps) fmt::print("NOT REMOVED: {}\n", mishap);
  if (!pruned.mishaps.empty()) fail("{} of what was to be removed could not be", pruned.mishaps.size());
}

}  // namespace

void add_checkpoint_command(Command shoal) {
  auto options = std::make_shared<Options>();
  Command command = shoal.subcommand("checkpoint", kDescription);
  const auto add = [&](const char* name, const char* description, void (*run)(const Options&)) {
    Command added = command.subcommand(name, description);
    added.positional("RUN", options->path, "A run folder, its checkpoints/, or one step-N");
    added.action([options, run] {
      check_is_folder(options->path);
      if (!options->other.empty()) check_is_folder(options->other);
      run(*options);
    });
    return added;
  };
  add("list", "The checkpoints of a run, newest first.\n\n  shoal checkpoint list runs/a", list);
  add("verify", "Read every byte and compare checksums.\n\n  shoal checkpoint verify runs/a", verify);
  Command show_one = add("show", "What one checkpoint holds.\n\n  shoal checkpoint show runs/a --step 2000", show);
  show_one.option("--step", options->step, "Of this step; -1: the newest good one", {.low = -1});
  show_one.flag("--tensors", options->tensors, "Each tensor: dtype, shape, pieces");
  show_one.flag("--config", options->config, "The config it was made with");
  Command compare = add("diff", "Where two checkpoints differ.\n\n  shoal checkpoint diff runs/a runs/b", diff);
  compare.positional("OTHER", options->other, "The other one");
  compare.option("--step", options->step, "Of this step in both; -1: the newest good one of each", {.low = -1});
  Command remove = add("prune", "Remove old checkpoints.\n\n  shoal checkpoint prune runs/a --keep 2", prune);
  remove.option("--keep", options->keep, "The newest so many stay whose every byte was read and is right", {.low = 2});
  remove.option("--keep-every", options->keep_every, "So do steps that are a multiple of this; 0: none", {.low = 0});
  remove.flag("--remains", options->remains,
              "Remove aside-* and step-* without COMMIT too, which nothing else removes");
  remove.flag("--dry-run", options->dry_run, "Only tell");
}

}  // namespace shoal
