// parallel/flight_record.cpp: names, and lines of JSON.
#include "parallel/flight_record.h"

#include <fmt/format.h>

namespace shoal {

namespace {

// Names of groups and hosts; what JSON would have to escape is replaced.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) out += (c < ' ' || c == '"' || c == '\\') ? '?' : c;
  return out + "\"";
}

}  // namespace

std::string_view name_of(Phase phase) {
  switch (phase) {
    case Phase::kStart: return "starting";
    case Phase::kStep: return "in a step";
    case Phase::kData: return "waiting for data";
    case Phase::kEvaluate: return "evaluating";
    case Phase::kSample: return "writing a sample text";
    case Phase::kSave: return "saving";
    case Phase::kLoad: return "loading";
    case Phase::kEnding: return "at its end, waiting for the others";
    case Phase::kEnded: return "at its end";
  }
  return "in an unknown phase";
}

std::string to_json(const FlightCall& call, int64_t now_ns) {
  std::string line = fmt::format(
      R"({{"sequence": {}, "step": {}, "group": {}, "group_id": "{:016x}", "call": {}, "verb": "{}", "dtype": "{}", )"
      R"("count": {}, )",
      call.sequence, call.step, quoted(call.group_name), call.group, call.call.number, name_of(call.call.verb),
      name_of(call.call.dtype), call.call.count);
  if (call.call.root >= 0) line += fmt::format(R"("root": {}, )", call.call.root);
  line += fmt::format(R"("history": "{:016x}", "begun_ns": {}, "begun_s_ago": {:.6f}, )", call.call.history,
                      call.begun_ns, static_cast<double>(now_ns - call.begun_ns) * 1e-9);
  if (call.on_device) return line + R"("ended_ns": null, "queued_on_device": true})";
  if (call.ended_ns == 0) return line + R"("ended_ns": null})";
  return line + fmt::format(R"("ended_ns": {}, "ms": {:.3f}}})", call.ended_ns,
                            static_cast<double>(call.ended_ns - call.begun_ns) * 1e-6);
}

std::string to_json(const RankState& state) {
  return fmt::format(R"({{"rank": {}, "host": {}, "pid": {}, "node": {}, "phase": {}, "step": {}, "steps_done": {}, )"
                     R"("longest_step_s": {:.3f}}})",
                     state.rank, quoted(state.host.view()), state.pid, state.node, quoted(name_of(state.phase)),
                     state.step, state.steps_done, state.longest_step_s);
}

}  // namespace shoal
