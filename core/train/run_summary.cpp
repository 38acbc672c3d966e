// core/train/run_summary.cpp: one object, written and read here alone.
#include "core/train/run_summary.h"

#include <nlohmann/json.hpp>

#include <algorithm>

#include "core/base/check.h"
#include "core/base/json_text.h"
#include "core/base/json_value.h"

namespace shoal {

namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMost = int64_t{1} << 62;

Json json_of(const MemorySplit& split) {
  Json json;
  for (int kind = 0; kind < kNumMemoryKinds; ++kind) {
    json[std::string(name_of(static_cast<MemoryKind>(kind)))] = split.bytes[static_cast<size_t>(kind)];
  }
  json["peak"] = split.peak_bytes;
  return json;
}

int64_t integer_at(const nlohmann::json& json, const std::string& key) {
  const std::string place = "the summary";
  return json.contains(key) ? JsonValue(json.at(key), place, key).integer(0, kMost) : 0;
}

MemorySplit split_of(const nlohmann::json& json) {
  if (!json.is_object()) fail("expected memory by kind");
  MemorySplit split;
  for (int kind = 0; kind < kNumMemoryKinds; ++kind) {
    split.bytes[static_cast<size_t>(kind)] = integer_at(json, std::string(name_of(static_cast<MemoryKind>(kind))));
  }
  split.peak_bytes = integer_at(json, "peak");
  return split;
}

}  // namespace

MemorySplit memory_split(const MemoryUse& use) {
  return {.bytes = use.at_total_peak_bytes, .peak_bytes = use.total_peak_bytes};
}

std::string to_json(const RunSummary& summary) {
  Json json;
  json["model"] = summary.model;
  json["parameters"] = summary.parameters;
  json["active_parameters"] = summary.active_parameters;
  json["flops_per_token"] = summary.flops_per_token;
  json["mfu_convention"] = summary.mfu_convention;
  json["peak_tflops"] = summary.peak_tflops;
  json["device"] = summary.device;
  json["ranks"] = summary.ranks;
  json["predicted_memory_bytes"] = json_of(summary.predicted);
  if (summary.measured) {
    json["measured_memory_bytes"] = json_of(*summary.measured);
    json["fullest_rank"] = summary.fullest_rank;
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

RunSummary parse_run_summary(const std::string& text, const std::string& path) {
  const nlohmann::json json = parse_json(text, path);
  try {
    RunSummary summary;
    summary.model = json.value("model", "");
    summary.parameters = integer_at(json, "parameters");
    summary.active_parameters = integer_at(json, "active_parameters");
    summary.flops_per_token = json.value("flops_per_token", 0.0);
    summary.mfu_convention = json.value("mfu_convention", "");
    summary.peak_tflops = json.value("peak_tflops", 0.0);
    summary.device = json.value("device", "");
    summary.ranks = static_cast<int>(std::min<int64_t>(integer_at(json, "ranks"), 1 << 30));
    if (json.contains("predicted_memory_bytes")) summary.predicted = split_of(json.at("predicted_memory_bytes"));
    if (json.contains("measured_memory_bytes")) summary.measured = split_of(json.at("measured_memory_bytes"));
    summary.fullest_rank = static_cast<int>(std::min<int64_t>(integer_at(json, "fullest_rank"), 1 << 30));
    return summary;
  } catch (const nlohmann::json::exception&) {
    fail("{}: is no summary of a run: a member has another type than the one `shoal train` writes", path);
  } catch (const Error& error) {
    fail("{}: is no summary of a run: {}", path, error.what());
  }
}

}  // namespace shoal
