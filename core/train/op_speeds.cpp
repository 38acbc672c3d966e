// core/train/op_speeds.cpp: kept as JSON, looked up.
#include "core/train/op_speeds.h"

#include <nlohmann/json.hpp>

#include "core/base/input_file.h"
#include "core/base/json_value.h"

namespace shoal {

namespace {

WorkKind work_kind_named(const std::string& name) {
  for (int kind = 0; kind < kNumWorkKinds; ++kind) {
    if (name == name_of(static_cast<WorkKind>(kind))) return static_cast<WorkKind>(kind);
  }
  fail("there is no kind of work '{}'", name);
}

DType dtype_named(const std::string& name) {
  for (const DType dtype :
       {DType::kF64, DType::kF32, DType::kBF16, DType::kE4M3, DType::kI64, DType::kI32, DType::kU8}) {
    if (name == name_of(dtype)) return dtype;
  }
  fail("there is no precision '{}'", name);
}

double seconds_at(const JsonValue& object, const char* key) {
  const double value = object.at(key).number();
  if (!(value >= 0)) fail("{} is {}: a time is not negative", key, value);
  return value;
}

}  // namespace

std::string to_json(const OpSpeeds& speeds) {
  nlohmann::ordered_json json;
  json["what"] = "seconds of an op = s_per_call + s_per_flop * FLOPs + s_per_byte * bytes";
  json["model"] = speeds.model;
  json["compute"] = speeds.compute;
  json["device"] = speeds.device;
  json["num_ranks"] = speeds.num_ranks;
  json["threads_per_rank"] = speeds.threads_per_rank;
  json["step_s"] = speeds.step_s;
  json["ops_s"] = speeds.ops_s;
  json["waited_s"] = speeds.waited_s;
  json["calls"] = speeds.calls;
  json["between_ops_s"] = speeds.between_ops_s;
  json["ops"] = nlohmann::ordered_json::array();
  for (const OpSpeed& op : speeds.ops) {
    json["ops"].push_back({{"op", op.op},
                           {"kind", name_of(op.kind)},
                           {"precision", name_of(op.precision)},
                           {"s_per_call", op.s_per_call},
                           {"s_per_flop", op.s_per_flop},
                           {"s_per_byte", op.s_per_byte},
                           {"calls", op.calls},
                           {"flops", op.flops},
                           {"bytes", op.bytes},
                           {"seconds", op.seconds}});
  }
  return json.dump(1) + "\n";
}

OpSpeeds read_op_speeds(const std::string& path) {
  constexpr int64_t kMaxBytes = 16 << 20;
  const std::string text = read_small_file(path, "op speeds", kMaxBytes);
  OpSpeeds speeds;
  try {
    const JsonDocument document(text, path);
    const JsonValue json = document.root();
    speeds.model = json.at("model").string();
    speeds.compute = json.at("compute").string();
    speeds.device = json.at("device").string();
    constexpr int64_t kMost = int64_t{1} << 53;
    speeds.num_ranks = static_cast<int>(json.at("num_ranks").integer(1, INT32_MAX));
    speeds.threads_per_rank = static_cast<int>(json.at("threads_per_rank").integer(1, INT32_MAX));
    speeds.step_s = seconds_at(json, "step_s");
    speeds.ops_s = seconds_at(json, "ops_s");
    speeds.waited_s = seconds_at(json, "waited_s");
    speeds.calls = json.at("calls").integer(0, kMost);
    speeds.between_ops_s = seconds_at(json, "between_ops_s");
    const JsonValue ops = json.at("ops");
    for (size_t i = 0; i < ops.size(); ++i) {
      const JsonValue row = ops.at(i);
      OpSpeed& op = speeds.ops.emplace_back();
      op.op = row.at("op").string();
      op.kind = work_kind_named(row.at("kind").string());
      op.precision = dtype_named(row.at("precision").string());
      op.s_per_call = seconds_at(row, "s_per_call");
      op.s_per_flop = seconds_at(row, "s_per_flop");
      op.s_per_byte = seconds_at(row, "s_per_byte");
      op.calls = row.at("calls").integer(0, kMost);
      op.flops = row.at("flops").number();
      op.bytes = row.at("bytes").number();
      op.seconds = seconds_at(row, "seconds");
    }
    if (speeds.ops.empty()) fail("it names no op");
  } catch (const Error& error) {
    fail("'{}' holds no op speeds ({}); make it with: shoal bench train CONFIG... --write-speeds FILE", path,
         error.what());
  }
  return speeds;
}

OpTimes::OpTimes(const OpSpeeds& speeds) : speeds_(speeds) {
  for (const OpSpeed& op : speeds.ops) by_op_[{op.op, op.precision}] = &op;
}

double OpTimes::seconds(const Work& work) {
  const auto found = by_op_.find({work.op, work.precision});
  if (found != by_op_.end()) return found->second->seconds_of(work);
  const double seconds = guess(work);
  guessed_s_[work.op] += seconds;
  return seconds;
}

// Seconds a FLOP of what multiplies, a byte of all else.
double OpTimes::guess(const Work& work) const {
  const bool multiplies = work.kind == WorkKind::kGemm || work.kind == WorkKind::kAttention;
  for (const bool same_precision : {true, false}) {
    double amount = 0, seconds = 0;
    for (const OpSpeed& op : speeds_.ops) {
      if (op.kind != work.kind || (same_precision && op.precision != work.precision)) continue;
      amount += multiplies ? op.flops : op.bytes;
      seconds += op.seconds;
    }
    if (amount > 0) return seconds / amount * (multiplies ? work.executed_flops : work.bytes);
  }
  fail(
      "the op speeds (measured with model '{}') name no op of the kind of {}: {}; measure them with a model that has "
      "one",
      speeds_.model, work.op, name_of(work.kind));
}

}  // namespace shoal
