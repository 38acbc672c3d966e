// core/report/read_run.cpp: one function a file of the folder.
#include "core/report/read_run.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <limits>

#include "core/base/check.h"
#include "core/base/input_file.h"
#include "core/base/json_text.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/manifest_text.h"
#include "core/checkpoint/native_checkpoint.h"
#include "core/config/load.h"
#include "core/report/read_metrics.h"

namespace shoal {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kMostBytes = int64_t{16} << 20;  // of the small files

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

int64_t unix_time_of(const fs::path& path) {
  std::error_code error;
  const auto written = fs::last_write_time(path, error);
  if (error) return 0;
  const auto system = std::chrono::file_clock::to_sys(written).time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(system).count();
}

std::string text_of(const fs::path& path) { return read_small_file(path.string(), "a file of a run", kMostBytes); }

std::string string_at(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

double number_at(const json& object, const char* key) {
  const auto found = object.find(key);
  const bool is_number = found != object.end() && found->is_number();
  return is_number ? found->get<double>() : std::numeric_limits<double>::quiet_NaN();
}

// In bytes, or as `shoal plan` writes it: by kind, with "peak".
double memory_of_plan(const json& object) {
  const auto memory = object.find("memory_bytes");
  return memory != object.end() && memory->is_object() ? number_at(*memory, "peak") : number_at(object, "memory_bytes");
}

json object_of(const fs::path& path) {
  json object = parse_json(text_of(path), path.string());
  if (!object.is_object()) fail("{}: expected an object, found: {}", path.string(), object.type_name());
  return object;
}

void read_config(RunRecord& run) {
  run.config_text = text_of(run.folder / "config.textproto");
  run.config = parse_config(run.config_text, (run.folder / "config.textproto").string()).config;
}

void read_environment(RunRecord& run) {
  run.environment_text = text_of(run.folder / "environment.json");
  const json environment = object_of(run.folder / "environment.json");
  run.date = string_at(environment, "date");
  run.host = string_at(environment, "host");
  if (const double ranks = number_at(environment, "mpi_ranks"); ranks >= 1 && ranks < 1e9) {
    run.ranks = static_cast<int>(ranks);
  }
  const auto words = environment.find("command_line");
  if (words == environment.end() || !words->is_array()) return;
  for (const json& word : *words) {
    if (word.is_string()) run.command_line += (run.command_line.empty() ? "" : " ") + word.get<std::string>();
  }
}

void read_summary(RunRecord& run) {
  const fs::path path = run.folder / kRunSummaryName;
  run.summary = parse_run_summary(text_of(path), path.string());
  if (run.summary->ranks > 0) run.ranks = run.summary->ranks;
}

void read_plan(RunRecord& run) {
  const json object = object_of(run.folder / "plan.json");
  RunPlan plan{.step_s = number_at(object, "step_s"),
               .tokens_per_s = number_at(object, "tokens_per_s"),
               .mfu = number_at(object, "mfu"),
               .memory_bytes = memory_of_plan(object),
               .compute_s = number_at(object, "compute_s"),
               .gpu_hours = number_at(object, "gpu_hours"),
               .usd = number_at(object, "usd"),
               .exposed_s = {},
               .exposed_total_s = std::numeric_limits<double>::quiet_NaN()};
  plan.exposed_s.fill(plan.exposed_total_s);
  const auto exposed = object.find("exposed_s");
  if (exposed != object.end() && exposed->is_object()) {
    plan.exposed_total_s = 0;
    for (size_t kind = 0; kind < kNumWireKinds; ++kind) {
      plan.exposed_s[kind] = number_at(*exposed, std::string(kWireKindNames[kind]).c_str());
      if (plan.exposed_s[kind] > 0) plan.exposed_total_s += plan.exposed_s[kind];
    }
  } else {
    plan.exposed_total_s = number_at(object, "exposed_s");
  }
  run.plan = plan;
}

void read_ngram(RunRecord& run) {
  const json object = object_of(run.folder / "ngram.json");
  const NgramEntropies ngram{.unigram_nats = number_at(object, "unigram_nats"),
                             .bigram_nats = number_at(object, "bigram_nats")};
  if (ngram.unigram_nats > 0 && ngram.bigram_nats > 0) run.ngram = ngram;
}

void read_recorded_steps(RunRecord& run) {
  constexpr uintmax_t kMostTimelineBytes = uintmax_t{64} << 20;  // a picture would not show more
  const fs::path path = run.folder / "timeline.json";
  if (fs::file_size(path) <= kMostTimelineBytes) run.timeline = read_timeline(path);
}

CheckpointRow row_of(const CheckpointFolder& folder, int64_t step) {
  CheckpointRow row{.step = step, .unix_s = unix_time_of(folder.of_step(step) / kCommitName), .problem = ""};
  try {
    const NativeCheckpoint checkpoint(folder.of_step(step));
    row.tokens = checkpoint.manifest().progress().tokens();
    row.ranks = checkpoint.manifest().layout().ranks();
    for (const StoredFile& file : checkpoint.manifest().file()) row.bytes += file.bytes();
  } catch (const Error& error) {
    row.problem = error.what();
  }
  return row;
}

void read_checkpoints(RunRecord& run) {
  const CheckpointFolder folder(run.folder);
  for (const int64_t step : folder.steps()) run.checkpoints.push_back(row_of(folder, step));
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder.path(), ignored)) {
    if (entry.path().filename().string().starts_with("aside-step-")) ++run.checkpoints_aside;
  }
}

// The first line of each says what the rank was at.
void read_flights(RunRecord& run) {
  constexpr size_t kMostFlights = 4096;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run.folder / "flight", ignored)) {
    const fs::path& path = entry.path();
    if (path.extension() != ".jsonl" || run.flights.size() >= kMostFlights) continue;
    const std::string text = text_of(path);
    const json state = parse_json(text.substr(0, text.find('\n')), path.string());
    if (!state.is_object()) continue;
    const double rank = number_at(state, "rank"), step = number_at(state, "step");
    run.flights.push_back({.rank = rank >= 0 && rank < 1e9 ? static_cast<int>(rank) : 0,
                           .host = string_at(state, "host"),
                           .phase = string_at(state, "phase"),
                           .step = step >= 0 && step < 1e15 ? static_cast<int64_t>(step) : 0,
                           .unix_s = unix_time_of(path)});
  }
  std::ranges::sort(run.flights, {}, &FlightRow::rank);
}

RunRecord read_run(const fs::path& folder) {
  RunRecord run;
  run.folder = folder;
  run.metrics = read_metrics(folder / "metrics.jsonl");
  run.has_final = is_there(folder / "final");
  const auto read = [&](const char* name, void (*reader)(RunRecord&)) {
    if (!is_there(folder / name)) return;
    try {
      reader(run);
    } catch (const std::exception& error) {  // of the file system too
      run.problems.push_back(error.what());
    }
  };
  read("config.textproto", read_config);
  read("environment.json", read_environment);
  read(kRunSummaryName, read_summary);
  read("plan.json", read_plan);
  read("ngram.json", read_ngram);
  read("timeline.json", read_recorded_steps);
  read("checkpoints", read_checkpoints);
  read("flight", read_flights);
  return run;
}

std::string name_of_folder(const fs::path& folder) {
  const fs::path whole = fs::absolute(folder).lexically_normal();
  const fs::path name = whole.has_filename() ? whole.filename() : whole.parent_path().filename();
  return name.empty() ? folder.string() : name.string();
}

}  // namespace

std::vector<RunRecord> read_runs(const std::vector<std::string>& folders) {
  std::vector<RunRecord> runs;
  for (const std::string& folder : folders) {
    if (!is_there(fs::path(folder) / "metrics.jsonl")) {
      fail("{}: holds no metrics.jsonl, so it is no run; name the folder that run.dir was set to", folder);
    }
    runs.push_back(read_run(folder));
    runs.back().name = name_of_folder(folder);
  }
  std::vector<std::string> names;
  for (const RunRecord& run : runs) names.push_back(run.name);
  for (size_t i = 0; i < runs.size(); ++i) {
    if (std::ranges::count(names, names[i]) > 1) runs[i].name = folders[i];
  }
  return runs;
}

}  // namespace shoal
