// core/train/metrics.cpp: one list of fields for JSON, one of tags for TensorBoard.
#include "core/train/metrics.h"

#include <spdlog/spdlog.h>

#include <cmath>
#include <numbers>
#include <string_view>

#include "core/base/check.h"

namespace shoal {
namespace {

// Appends "key":value pairs. Doubles are printed as the shortest text that reads back as the same number.
class JsonObject {
 public:
  void add(std::string_view key, double value) {
    key_of(key);
    // JSON has no NaN and no infinity.
    text_ += std::isfinite(value) ? fmt::format("{}", value) : "null";
  }
  void add(std::string_view key, int64_t value) {
    key_of(key);
    text_ += fmt::format("{}", value);
  }
  void add(std::string_view key, const JsonObject& value) {
    key_of(key);
    text_ += value.str();
  }
  void add(std::string_view key, bool value) {
    key_of(key);
    text_ += value ? "true" : "false";
  }
  void add(std::string_view key, const std::vector<std::vector<int64_t>>& table) {
    key_of(key);
    std::vector<std::string> rows;
    for (const std::vector<int64_t>& row : table) rows.push_back(fmt::format("[{}]", fmt::join(row, ",")));
    text_ += fmt::format("[{}]", fmt::join(rows, ","));
  }
  void add(const JobTime& job) {
    add("start_unix_s", job.start_unix_s);
    add("ranks", int64_t{job.ranks});
    add("job_s", job.job_s);
  }
  std::string str() const { return text_ + "}"; }

 private:
  void key_of(std::string_view key) { text_ += fmt::format("{}\"{}\":", text_.size() > 1 ? "," : "", key); }
  std::string text_ = "{";
};

// {"attention": {"activations": {"saturated": …}, "gradients": …}, …}
JsonObject fp8_object(const std::vector<QuantizeMetrics>& all) {
  JsonObject parts;
  for (size_t i = 0; i < all.size();) {
    const LayerPart part = all[i].part;
    JsonObject kinds;
    for (; i < all.size() && all[i].part == part; ++i) {
      JsonObject one;
      one.add("saturated", all[i].saturated);
      one.add("flushed", all[i].flushed);
      one.add("not_finite_tiles", all[i].not_finite_tiles);
      one.add("min_scale", all[i].min_scale);
      one.add("max_scale", all[i].max_scale);
      kinds.add(all[i].kind(), one);
    }
    parts.add(name_of(part), kinds);
  }
  return parts;
}

JsonObject exposed_object(const WireSeconds& exposed_ms) {
  JsonObject kinds;
  for (size_t kind = 0; kind < exposed_ms.size(); ++kind) kinds.add(kWireKindNames[kind], exposed_ms[kind]);
  return kinds;
}

}  // namespace

double perplexity(double loss) { return std::exp(loss); }

double bits_per_byte(double loss, int64_t tokens, int64_t bytes) {
  if (bytes <= 0) return std::numeric_limits<double>::quiet_NaN();
  return loss / std::numbers::ln2 * static_cast<double>(tokens) / static_cast<double>(bytes);
}

std::string to_json(const StepMetrics& m) {
  JsonObject json;
  json.add("step", m.step);
  json.add("tokens", m.tokens);
  json.add("sequences", m.sequences);
  json.add("loss", m.loss);
  json.add("mtp_loss", m.mtp_loss);
  json.add("aux_loss", m.aux_loss);
  json.add("lr", m.lr);
  json.add("grad_norm", m.grad_norm);
  json.add("clip_factor", m.clip_factor);
  json.add("update_skipped", m.update_skipped);
  json.add("skipped_steps", m.skipped_steps);
  json.add("roll_backs", m.roll_backs);
  json.add("skipped_sequences", m.skipped_sequences);
  json.add("failed_saves", m.failed_saves);
  json.add("step_ms", m.step_ms);
  json.add("tokens_per_s", m.tokens_per_s);
  json.add("tflops", m.tflops);
  json.add("mfu", m.mfu);
  json.add("expert_load_max_violation", m.expert_load_max_violation);
  json.add("comm_bytes", m.comm_bytes);
  json.add("intra_node_bytes", m.intra_node_bytes);
  json.add("inter_node_bytes", m.inter_node_bytes);
  json.add("metadata_bytes", m.metadata_bytes);
  json.add("exposed_comm_ms", m.exposed_comm_ms);
  json.add("exposed_comm_ms_by_kind", exposed_object(m.exposed_ms));
  json.add("waiting_step_ms", m.waiting_step_ms);
  json.add("compute_ms", m.compute_ms);
  json.add("idle_ms", m.idle_ms);
  json.add("peak_memory_bytes", m.peak_memory_bytes);
  if (!m.fp8.empty()) json.add("fp8", fp8_object(m.fp8));
  if (!m.expert_load.empty()) json.add("expert_load", m.expert_load);
  json.add(m.job);
  return json.str();
}

std::string to_json(const ValidationMetrics& m) {
  JsonObject json;
  json.add("step", m.step);
  json.add("tokens", m.tokens);
  json.add("val_tokens", m.val_tokens);
  json.add("val_loss", m.val_loss);
  json.add("val_perplexity", m.val_perplexity);
  json.add("val_bits_per_byte", m.val_bits_per_byte);
  json.add(m.job);
  return json.str();
}

std::vector<Scalar> to_scalars(const StepMetrics& m) {
  std::vector<Scalar> scalars = {
      {"train/loss", m.loss},
      {"train/mtp_loss", m.mtp_loss},
      {"train/aux_loss", m.aux_loss},
      {"train/lr", m.lr},
      {"train/grad_norm", m.grad_norm},
      {"train/tokens", static_cast<double>(m.tokens)},
      {"train/sequences", static_cast<double>(m.sequences)},
      {"train/tokens_per_s", m.tokens_per_s},
      {"train/tflops", m.tflops},
      {"train/mfu", m.mfu},
      {"train/step_ms", m.step_ms},
      {"time/comm_exposed_ms", m.exposed_comm_ms},
      {"time/compute_ms", m.compute_ms},
      {"time/idle_ms", m.idle_ms},
      {"comm/mib", static_cast<double>(m.comm_bytes) / (1 << 20)},
      {"comm/intra_node_mib", static_cast<double>(m.intra_node_bytes) / (1 << 20)},
      {"comm/inter_node_mib", static_cast<double>(m.inter_node_bytes) / (1 << 20)},
      {"comm/metadata_mib", static_cast<double>(m.metadata_bytes) / (1 << 20)},
      {"mem/peak_gib", static_cast<double>(m.peak_memory_bytes) / (1 << 30)},
      {"moe/maxvio_max", m.expert_load_max_violation},
      {"faults/skipped_steps", static_cast<double>(m.skipped_steps)},
      {"faults/roll_backs", static_cast<double>(m.roll_backs)},
      {"faults/skipped_sequences", static_cast<double>(m.skipped_sequences)},
      {"faults/failed_saves", static_cast<double>(m.failed_saves)},
  };
  for (size_t kind = 0; kind < m.exposed_ms.size(); ++kind) {
    scalars.push_back({fmt::format("comm/exposed_{}_ms", kWireKindNames[kind]), m.exposed_ms[kind]});
  }
  for (const QuantizeMetrics& one : m.fp8) {
    const std::string tag = fmt::format("fp8/{}_{}_", name_of(one.part), one.kind());
    scalars.push_back({tag + "saturated", one.saturated});
    scalars.push_back({tag + "flushed", one.flushed});
    scalars.push_back({tag + "not_finite_tiles", static_cast<double>(one.not_finite_tiles)});
    scalars.push_back({tag + "min_scale", one.min_scale});
    scalars.push_back({tag + "max_scale", one.max_scale});
  }
  return scalars;
}

std::vector<Scalar> to_scalars(const ValidationMetrics& m) {
  std::vector<Scalar> scalars = {{"val/loss", m.val_loss}, {"val/ppl", m.val_perplexity}};
  if (std::isfinite(m.val_bits_per_byte)) scalars.push_back({"val/bpb", m.val_bits_per_byte});
  return scalars;
}

MetricsLog::MetricsLog(const std::filesystem::path& run_dir, std::optional<int64_t> step)
    : lines_(run_dir / "metrics.jsonl", step ? AppendFile::Open::kGoOn : AppendFile::Open::kNew),
      events_(run_dir / "tensorboard") {
  if (step) events_.start_session(*step);
}

void MetricsLog::write(const StepMetrics& metrics) {
  append(to_json(metrics) + "\n", metrics.step, to_scalars(metrics));
}

void MetricsLog::write(const ValidationMetrics& metrics) {
  append(to_json(metrics) + "\n", metrics.step, to_scalars(metrics));
}

void MetricsLog::start_session(int64_t step) {
  try_to([&] { events_.start_session(step); });
}

void MetricsLog::write_text(int64_t step, const std::string& tag, const std::string& markdown) {
  try_to([&] { events_.text(step, tag, markdown); });
}

void MetricsLog::append(const std::string& line, int64_t step, const std::vector<Scalar>& scalars) {
  const bool has_line = try_to([&] { lines_.append(line); });
  const bool has_event = try_to([&] { events_.scalars(step, scalars); });
  if (lost_in_a_row_ == 0 || !has_line || !has_event) return;
  spdlog::warn("{} can be written again; {} records are missing there and in tensorboard/", lines_.path().string(),
               lost_in_a_row_);
  lost_in_a_row_ = 0;
}

bool MetricsLog::try_to(const std::function<void()>& write) {
  try {
    write();
    return true;
  } catch (const Error& error) {
    if (lost_in_a_row_ == 0) spdlog::warn("{}; training goes on, what cannot be logged is lost", error.what());
    ++lost_in_a_row_;
    ++lost_records_;
    return false;
  }
}

}  // namespace shoal
