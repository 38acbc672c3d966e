// core/report/read_metrics.cpp: lines, their members, and the order in which steps came.
#include "core/report/read_metrics.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <functional>
#include <limits>
#include <string_view>
#include <utility>

#include "core/base/check.h"
#include "core/base/input_file.h"
#include "core/base/json_text.h"
#include "core/base/json_value.h"

namespace shoal {

namespace {

using nlohmann::json;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kMost = int64_t{1} << 60;
constexpr int64_t kMostLineBytes = int64_t{64} << 20;
constexpr size_t kMostProblems = 20;

int64_t whole_number(const json& value, const std::string& key) {
  const JsonValue number(value, key, "");
  if (!number.is_integer(0, kMost)) fail("`{}`: expected a whole number from 0 on, found {}", key, shown_json(value));
  return number.integer(0, kMost);
}

// The members of one line.
class Members {
 public:
  explicit Members(const json& line) : line_(line) {}

  bool has(const char* key) const { return line_.contains(key); }
  double number(const char* key) const { return number_in(line_, key); }
  // 0 where there is none.
  int64_t integer(const char* key) const {
    if (!has(key) || line_.at(key).is_null()) return 0;
    return needed_integer(key);
  }
  int64_t needed_integer(const char* key) const {
    if (!has(key)) fail("it has no `{}`", key);
    return whole_number(line_.at(key), key);
  }
  bool boolean(const char* key) const {
    if (!has(key) || line_.at(key).is_null()) return false;
    if (!line_.at(key).is_boolean()) fail("`{}`: expected true or false", key);
    return line_.at(key).get<bool>();
  }
  const json* object(const char* key) const {
    if (!has(key) || line_.at(key).is_null()) return nullptr;
    if (!line_.at(key).is_object()) fail("`{}`: expected an object", key);
    return &line_.at(key);
  }
  const json* list(const char* key) const {
    if (!has(key) || line_.at(key).is_null()) return nullptr;
    if (!line_.at(key).is_array()) fail("`{}`: expected a list", key);
    return &line_.at(key);
  }

  static double number_in(const json& object, const std::string& key) {
    const auto found = object.find(key);
    if (found == object.end() || found->is_null()) return kNan;
    if (!found->is_number()) fail("`{}`: expected a number", key);
    return found->get<double>();
  }

 private:
  const json& line_;
};

JobTime job_time(const Members& line) {
  JobTime job{.start_unix_s = line.integer("start_unix_s"), .ranks = 0, .job_s = line.number("job_s")};
  job.ranks = static_cast<int>(std::min<int64_t>(line.integer("ranks"), 1 << 30));
  return job;
}

std::vector<QuantizeMetrics> quantize_metrics_of(const json& parts) {
  std::vector<QuantizeMetrics> all;
  for (int part = 0; part < kNumLayerParts; ++part) {
    const auto found = parts.find(std::string(name_of(static_cast<LayerPart>(part))));
    if (found == parts.end() || !found->is_object()) continue;
    for (const bool gradients : {false, true}) {
      QuantizeMetrics one{.part = static_cast<LayerPart>(part), .gradients = gradients};
      const auto table = found->find(std::string(one.kind()));
      if (table == found->end() || !table->is_object()) continue;
      one.saturated = Members::number_in(*table, "saturated");
      one.flushed = Members::number_in(*table, "flushed");
      one.not_finite_tiles = Members(*table).integer("not_finite_tiles");
      one.min_scale = Members::number_in(*table, "min_scale");
      one.max_scale = Members::number_in(*table, "max_scale");
      all.push_back(one);
    }
  }
  return all;
}

std::vector<std::vector<int64_t>> expert_load_of(const json& layers) {
  std::vector<std::vector<int64_t>> load;
  for (const json& layer : layers) {
    if (!layer.is_array()) fail("`expert_load`: expected a list of lists");
    std::vector<int64_t>& row = load.emplace_back();
    for (const json& tokens : layer) row.push_back(whole_number(tokens, "expert_load"));
    if (row.empty() || row.size() != load.front().size())
      fail("`expert_load`: expected layers of equally many experts");
  }
  return load;
}

StepMetrics step_of(const Members& line) {
  StepMetrics m;
  m.step = line.needed_integer("step");
  m.tokens = line.needed_integer("tokens");
  m.sequences = line.integer("sequences");
  for (const auto& [key, value] : {std::pair{"loss", &m.loss},
                                   {"mtp_loss", &m.mtp_loss},
                                   {"aux_loss", &m.aux_loss},
                                   {"lr", &m.lr},
                                   {"grad_norm", &m.grad_norm},
                                   {"clip_factor", &m.clip_factor},
                                   {"step_ms", &m.step_ms},
                                   {"tokens_per_s", &m.tokens_per_s},
                                   {"tflops", &m.tflops},
                                   {"mfu", &m.mfu},
                                   {"expert_load_max_violation", &m.expert_load_max_violation},
                                   {"waiting_step_ms", &m.waiting_step_ms},
                                   {"exposed_comm_ms", &m.exposed_comm_ms},
                                   {"compute_ms", &m.compute_ms},
                                   {"idle_ms", &m.idle_ms}}) {
    *value = line.number(key);
  }
  for (const auto& [key, value] : {std::pair{"skipped_steps", &m.skipped_steps},
                                   {"roll_backs", &m.roll_backs},
                                   {"skipped_sequences", &m.skipped_sequences},
                                   {"failed_saves", &m.failed_saves},
                                   {"comm_bytes", &m.comm_bytes},
                                   {"intra_node_bytes", &m.intra_node_bytes},
                                   {"inter_node_bytes", &m.inter_node_bytes},
                                   {"metadata_bytes", &m.metadata_bytes},
                                   {"peak_memory_bytes", &m.peak_memory_bytes}}) {
    *value = line.integer(key);
  }
  m.update_skipped = line.boolean("update_skipped");
  m.exposed_ms.fill(kNan);
  if (const json* kinds = line.object("exposed_comm_ms_by_kind")) {
    for (size_t kind = 0; kind < kNumWireKinds; ++kind) {
      m.exposed_ms[kind] = Members::number_in(*kinds, std::string(kWireKindNames[kind]));
    }
  }
  if (const json* parts = line.object("fp8")) m.fp8 = quantize_metrics_of(*parts);
  if (const json* layers = line.list("expert_load")) m.expert_load = expert_load_of(*layers);
  m.job = job_time(line);
  return m;
}

ValidationMetrics validation_of(const Members& line) {
  ValidationMetrics m;
  m.step = line.needed_integer("step");
  m.tokens = line.needed_integer("tokens");
  m.val_tokens = line.integer("val_tokens");
  m.val_loss = line.number("val_loss");
  m.val_perplexity = line.number("val_perplexity");
  m.val_bits_per_byte = line.number("val_bits_per_byte");
  m.job = job_time(line);
  return m;
}

// Puts records in the order that counts.
class History {
 public:
  explicit History(MetricsHistory& to) : to_(to) {}

  void add(StepMetrics step) {
    note_start(step.job, step.step);
    const double step_s = step.step_ms > 0 ? step.step_ms * 1e-3 : 0;  // NaN is none
    to_.starts.back().step_s += step_s;
    to_.starts.back().last_step = step.step;
    if (!to_.steps.empty() && step.step <= to_.steps.back().step) rewind(step);
    to_.steps.push_back(std::move(step));
  }
  void add(const ValidationMetrics& validation) {
    note_start(validation.job, validation.step + 1);
    drop_validations(validation.step);
    to_.validations.push_back(validation);
  }

 private:
  void note_start(const JobTime& job, int64_t step) {
    if (to_.starts.empty() || to_.starts.back().start_unix_s != job.start_unix_s) {
      to_.starts.push_back({.start_unix_s = job.start_unix_s,
                            .ranks = job.ranks,
                            .job_s = 0,
                            .step_s = 0,
                            .first_step = step,
                            .last_step = step - 1});
    }
    if (job.job_s > to_.starts.back().job_s) to_.starts.back().job_s = job.job_s;
  }
  // From this step on.
  void drop_validations(int64_t step) {
    while (!to_.validations.empty() && to_.validations.back().step >= step) to_.validations.pop_back();
  }
  // Takes back what a step, that comes now, comes before.
  void rewind(const StepMetrics& step) {
    const StepMetrics& last = to_.steps.back();
    Rewind rewind{.from_step = last.step,
                  .to_step = step.step - 1,
                  .step_s = 0,
                  .new_start = last.job.start_unix_s != step.job.start_unix_s};
    while (!to_.steps.empty() && to_.steps.back().step >= step.step) {
      if (to_.steps.back().step_ms > 0) rewind.step_s += to_.steps.back().step_ms * 1e-3;
      to_.steps.pop_back();
    }
    drop_validations(step.step);
    to_.rewinds.push_back(rewind);
  }

  MetricsHistory& to_;
};

// Calls `line` with each line's number and text, and whether a newline ends it. What is longer than kMostLineBytes is
// handed over cut.
void for_each_line(const InputFile& file, const std::function<void(int64_t, std::string_view, bool)>& line) {
  std::string buffer(size_t{1} << 20, '\0'), pending;
  int64_t number = 1;
  for (int64_t offset = 0;;) {
    const int64_t bytes = file.read_some(offset, buffer.data(), static_cast<int64_t>(buffer.size()));
    if (bytes == 0) break;
    offset += bytes;
    std::string_view rest(buffer.data(), static_cast<size_t>(bytes));
    while (!rest.empty()) {
      const size_t end = rest.find('\n');
      if (pending.size() <= kMostLineBytes) pending += rest.substr(0, end);
      if (end == std::string_view::npos) break;
      line(number++, pending, true);
      pending.clear();
      rest.remove_prefix(end + 1);
    }
  }
  if (!pending.empty()) line(number, pending, false);
}

}  // namespace

MetricsHistory read_metrics(const std::filesystem::path& path) {
  const InputFile file(path.string(), "the metrics of a run");
  MetricsHistory history;
  History order(history);
  int64_t num_problems = 0;
  const auto complain = [&](std::string sentence) {
    if (++num_problems <= static_cast<int64_t>(kMostProblems)) history.problems.push_back(std::move(sentence));
  };
  const std::string name = path.filename().string();
  for_each_line(file, [&](int64_t number, std::string_view text, bool is_whole) {
    const std::string place = fmt::format("{}:{}", name, number);
    if (!is_whole) {
      return complain(
          fmt::format("{}: the last line is cut: a record still being written, or torn by a crash; it is "
                      "left out",
                      place));
    }
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) return;
    try {
      const json line = parse_json(text, place);
      if (!line.is_object()) fail("{}: expected an object, found: {}", place, line.type_name());
      const Members members(line);
      try {
        if (members.has("val_loss")) {
          order.add(validation_of(members));
        } else if (members.has("loss")) {
          order.add(step_of(members));
        } else {
          fail("it is neither a step nor a validation: it has no `loss` and no `val_loss`");
        }
      } catch (const Error& error) {
        fail("{}: {}", place, error.what());
      }
    } catch (const Error& error) {
      complain(fmt::format("{}; the line is left out", error.what()));
    }
  });
  if (num_problems > static_cast<int64_t>(kMostProblems)) {
    history.problems.push_back(
        fmt::format("{}: {} more lines are left out", name, num_problems - static_cast<int64_t>(kMostProblems)));
  }
  return history;
}

}  // namespace shoal
