// core/train/watchdog_verdict.cpp: silence first, then who waits for whom.
#include "core/train/watchdog_verdict.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

namespace shoal {

namespace {

const GroupProgress* find_group(const RankState& state, uint64_t id) {
  const auto found = std::ranges::find(state.groups, id, &GroupProgress::id);
  return id == 0 || found == state.groups.end() ? nullptr : &*found;
}

CollectiveCall call_of(const PendingCall& pending) {
  return {.verb = pending.verb,
          .dtype = pending.dtype,
          .root = pending.root,
          .count = pending.count,
          .rows = 0,
          .number = pending.number,
          .history = pending.history};
}

std::string describe(const RankState& state, const PendingCall& pending) {
  const GroupProgress* group = find_group(state, pending.group);
  return fmt::format("{}, call {} of group '{}'", describe(call_of(pending)), pending.number,
                     group == nullptr ? "?" : group->name.view());
}

std::string names_of(const std::vector<int>& ranks) {
  constexpr size_t kMostNamed = 16;
  const size_t named = std::min(ranks.size(), kMostNamed);
  return fmt::format("{} {}{}", ranks.size() == 1 ? "rank" : "ranks",
                     fmt::join(ranks.begin(), ranks.begin() + named, ", "),
                     named < ranks.size() ? fmt::format(" and {} more", ranks.size() - named) : "");
}

std::string place_of(const RankState& state) {
  if (state.phase == Phase::kStep || state.phase == Phase::kData) {
    return fmt::format("in step {}{}", state.step, state.phase == Phase::kData ? ", waiting for data" : "");
  }
  std::string text(name_of(state.phase));
  if (state.step > 0) text += fmt::format(" after step {}", state.step);
  return text;
}

// It works no more; what others ask of it does not come.
bool is_through(const RankState& state) { return state.phase == Phase::kEnding || state.phase == Phase::kEnded; }

// Who waits for whom: each rank's edges lead to those that have not made a call that it has posted.
class Waits {
 public:
  explicit Waits(const WatchView& view) : view_(view), for_(view.ranks.size()), blind_(view.ranks.size()) {
    for (size_t a = 0; a < view.ranks.size(); ++a) {
      const RankState& state = view.ranks[a].state;
      if (is_through(state)) continue;
      for (const PendingCall& pending : state.pending) {
        if (pending.verb != Verb::kNone) add(a, pending.group, pending.number);
      }
      // A device's queue does not tell: whoever is ahead may be waiting.
      for (const GroupProgress& group : state.groups) {
        if (group.id != 0 && group.on_device != 0) add(a, group.id, group.begun);
      }
    }
  }

  const std::set<size_t>& of(size_t rank) const { return for_[rank]; }
  // Waits for a rank that cannot be seen, perhaps.
  bool blind(size_t rank) const { return blind_[rank]; }
  // The ends of all chains that begin here; none: they end in a circle.
  std::set<size_t> ends(size_t rank, std::set<size_t>& visited) const {
    if (!visited.insert(rank).second) return {};
    if (for_[rank].empty()) return {rank};
    std::set<size_t> found;
    for (const size_t next : for_[rank]) found.merge(ends(next, visited));
    return found;
  }
  // ", where ranks 0, 1 wait for it in X".
  std::string waiting_for(size_t rank) const {
    std::vector<int> waiting;
    std::string what;
    for (size_t a = 0; a < for_.size(); ++a) {
      if (!for_[a].contains(rank)) continue;
      waiting.push_back(view_.ranks[a].state.rank);
      if (what.empty()) what = call_text(a, rank);
    }
    if (waiting.empty()) return "";
    return fmt::format("; {} {} for it in {}", names_of(waiting), waiting.size() == 1 ? "waits" : "wait", what);
  }

 private:
  void add(size_t a, uint64_t id, int64_t number) {
    int visible = 0;
    for (size_t b = 0; b < for_.size(); ++b) {
      const GroupProgress* group = find_group(view_.ranks[b].state, id);
      if (group == nullptr) continue;
      ++visible;
      if (b != a && group->begun < number) for_[a].insert(b);
    }
    const GroupProgress* own = find_group(view_.ranks[a].state, id);
    if (own != nullptr && visible < own->size) blind_[a] = true;
  }
  std::string call_text(size_t a, size_t b) const {
    const RankState& state = view_.ranks[a].state;
    for (const PendingCall& pending : state.pending) {
      const GroupProgress* theirs = find_group(view_.ranks[b].state, pending.group);
      if (pending.verb != Verb::kNone && theirs != nullptr && theirs->begun < pending.number) {
        return describe(state, pending);
      }
    }
    for (const GroupProgress& group : state.groups) {
      const GroupProgress* theirs = find_group(view_.ranks[b].state, group.id);
      if (group.on_device != 0 && theirs != nullptr && theirs->begun < group.begun) {
        return fmt::format("call {} of group '{}' at the latest", group.begun, group.name.view());
      }
    }
    return "a collective";
  }

  const WatchView& view_;
  std::vector<std::set<size_t>> for_;
  std::vector<char> blind_;
};

std::string who(const WatchView& view, const RankState& state) {
  return fmt::format("rank {} of {} (host {}, process {})", state.rank, view.num_ranks, state.host.view(), state.pid);
}

std::string doing(const RankState& state) {
  if (state.pending[0].verb == Verb::kNone) {
    const bool on_device =
        std::ranges::any_of(state.groups, [](const GroupProgress& group) { return group.on_device != 0; });
    std::string text = place_of(state) + (on_device ? ", in no collective on the host" : ", in no collective");
    if (state.last.verb != Verb::kNone) text += " since " + describe(state, state.last);
    return text;
  }
  return fmt::format("{}, in {}", place_of(state), describe(state, state.pending[0]));
}

Verdict judge_silence(const WatchView& view, const WatchLimits& limits, const Waits& waits) {
  Verdict verdict;
  for (size_t i = 0; i < view.ranks.size(); ++i) {
    const Sighting& seen = view.ranks[i];
    if (seen.state.phase == Phase::kEnded) continue;
    const bool gone = seen.process == ProcessState::kGone && seen.silent_s > limits.gone_s;
    const double limit_s = seen.state.node == view.node ? limits.silent_s : limits.silent_node_s;
    if (!gone && seen.silent_s <= limit_s) continue;
    verdict.ranks.push_back(seen.state.rank);
    if (!verdict.text.empty()) continue;  // the first is told of
    const bool stopped = seen.process == ProcessState::kStopped || seen.process == ProcessState::kTraced;
    verdict.finding = gone ? Finding::kGone : stopped ? Finding::kStopped : Finding::kSilent;
    const char* what = gone                                   ? "is gone"
                       : verdict.finding == Finding::kStopped ? "is stopped, by a signal or a debugger"
                       : seen.state.node == view.node         ? "does not run"
                                                              : "is not heard of: it, its host or the network is gone";
    verdict.text = fmt::format("{} {}, for {:.1f} s; it was {}{}", who(view, seen.state), what, seen.silent_s,
                               doing(seen.state), waits.waiting_for(i));
  }
  if (verdict.ranks.size() > 1) verdict.text += fmt::format("; so it is with {} of the ranks", names_of(verdict.ranks));
  return verdict;
}

// Two ranks at the same call of a group that is not the same.
Verdict judge_calls(const WatchView& view) {
  std::map<std::pair<uint64_t, int64_t>, std::pair<const RankState*, const PendingCall*>> first;
  for (const Sighting& seen : view.ranks) {
    for (const PendingCall& pending : seen.state.pending) {
      if (pending.verb == Verb::kNone) continue;
      const auto [place, is_new] = first.try_emplace({pending.group, pending.number}, std::pair{&seen.state, &pending});
      const auto& [other, call] = place->second;
      if (is_new || call->history == pending.history) continue;
      const GroupProgress* group = find_group(*other, pending.group);
      return {.finding = Finding::kDifferentCalls,
              .ranks = {other->rank, seen.state.rank},
              .text = describe_mismatch(group == nullptr ? "?" : group->name.view(), seen.state.rank, call_of(pending),
                                        other->rank, call_of(*call))};
    }
  }
  return {};
}

Verdict stuck(const WatchView& view, size_t at, const PhaseLimit& limit, const Waits& waits) {
  const Sighting& seen = view.ranks[at];
  const RankState& state = seen.state;
  Verdict verdict{.finding = Finding::kStuck, .ranks = {state.rank}, .text = {}};
  if (is_through(state)) {
    verdict.finding = Finding::kEnded;
    verdict.text =
        fmt::format("{} has come to its end, and others have not{}", who(view, state), waits.waiting_for(at));
  } else if (state.pending[0].verb != Verb::kNone) {
    verdict.finding = Finding::kLostMessages;
    verdict.text = fmt::format(
        "{} is {}, which all ranks of the group have entered, and nothing has come for {:.1f} s: messages are lost or "
        "a link is down (allowed: {:.0f} s, {})",
        who(view, state), doing(state), seen.idle_s, limit.seconds, limit.knob);
  } else {
    verdict.text =
        fmt::format("{} is stuck: {}, without progress for {:.1f} s (allowed: {:.0f} s, {}){}", who(view, state),
                    doing(state), seen.idle_s, limit.seconds, limit.knob, waits.waiting_for(at));
  }
  return verdict;
}

}  // namespace

WatchLimits watch_limits(const WatchdogConfig& config) {
  return {.step_s = config.step_seconds(),
          .start_s = config.start_seconds(),
          .save_s = config.save_seconds(),
          .evaluate_s = config.evaluate_seconds()};
}

PhaseLimit phase_limit(const RankState& state, double longest_step_s, const WatchLimits& limits) {
  const double by_steps_s = 5 * longest_step_s;
  const PhaseLimit step = by_steps_s > limits.step_s ? PhaseLimit{by_steps_s, "5 times the longest step"}
                                                     : PhaseLimit{limits.step_s, "run.watchdog.step_seconds"};
  const PhaseLimit start{limits.start_s, "run.watchdog.start_seconds"};
  switch (state.phase) {
    case Phase::kStart: return start;
    case Phase::kData: return start;  // storage may stall
    case Phase::kStep: return state.steps_done > 0 || step.seconds > start.seconds ? step : start;
    case Phase::kEvaluate:
    case Phase::kSample: return {limits.evaluate_s, "run.watchdog.evaluate_seconds"};
    case Phase::kSave:
    case Phase::kLoad: return {limits.save_s, "run.watchdog.save_seconds"};
    case Phase::kEnding:
    case Phase::kEnded: return step;
  }
  return step;
}

Verdict judge(const WatchView& view, const WatchLimits& limits) {
  const Waits waits(view);
  if (Verdict silent = judge_silence(view, limits, waits); silent.finding != Finding::kNone) return silent;
  double longest_step_s = 0;
  for (const Sighting& seen : view.ranks) longest_step_s = std::max(longest_step_s, seen.state.longest_step_s);
  const auto limit_of = [&](size_t i) { return phase_limit(view.ranks[i].state, longest_step_s, limits); };
  const auto limit_s = [&](size_t i) { return limit_of(i).seconds; };
  for (size_t i = 0; i < view.ranks.size(); ++i) {
    if (is_through(view.ranks[i].state) || view.ranks[i].idle_s <= limit_s(i)) continue;
    if (Verdict different = judge_calls(view); different.finding != Finding::kNone) return different;
    std::set<size_t> visited;
    const std::set<size_t> ends = waits.ends(i, visited);
    for (const size_t end : ends) {
      const bool waits_for_unseen = waits.blind(end) && view.ranks[end].state.pending[0].verb != Verb::kNone;
      // Of one that is not heard of nothing is known; soon it is called silent.
      const bool heard_of = view.ranks[end].silent_s < limits.gone_s || view.ranks[end].state.phase == Phase::kEnded;
      const bool known = heard_of && !waits_for_unseen;
      if (known && view.ranks[end].idle_s > limit_s(end)) return stuck(view, end, limit_of(end), waits);
    }
    const bool all_idle = std::ranges::all_of(visited, [&](size_t k) { return view.ranks[k].idle_s > limit_s(k); });
    if (!ends.empty() || !all_idle) continue;
    Verdict circle{.finding = Finding::kDeadlock, .ranks = {}, .text = "ranks wait for each other:"};
    for (const size_t k : visited) {
      circle.ranks.push_back(view.ranks[k].state.rank);
      circle.text += fmt::format("{} rank {} {}", k == *visited.begin() ? "" : ";", view.ranks[k].state.rank,
                                 doing(view.ranks[k].state));
    }
    return circle;
  }
  return {};
}

std::string find_different_calls(const std::map<int, std::vector<FlightCall>>& calls_of_rank) {
  std::map<std::pair<uint64_t, int64_t>, std::pair<int, const FlightCall*>> first;
  for (const auto& [rank, calls] : calls_of_rank) {
    for (const FlightCall& call : calls) {
      const auto [place, is_new] = first.try_emplace({call.group, call.call.number}, std::pair{rank, &call});
      const auto& [other_rank, other] = place->second;
      if (is_new || other->call.history == call.call.history) continue;
      return describe_mismatch(call.group_name, rank, call.call, other_rank, other->call);
    }
  }
  return {};
}

void Sightings::wake(double now_s, double asked_s) {
  constexpr double kLateS = 1.5;
  const bool suspended = awake_ && now_s - now_s_ > asked_s + kLateS;
  now_s_ = now_s;
  awake_ = true;
  if (!suspended) return;
  for (auto& [rank, seen] : seen_) seen.beat_at_s = seen.progress_at_s = now_s;
}

void Sightings::see(const RankState& state, ProcessState process) {
  const auto [place, is_new] = seen_.try_emplace(state.rank);
  Seen& seen = place->second;
  if (is_new || state.beats != seen.state.beats) seen.beat_at_s = now_s_;
  if (is_new || state.progress != seen.state.progress) seen.progress_at_s = now_s_;
  seen.state = state;
  seen.process = process;
}

std::vector<Sighting> Sightings::all() const {
  std::vector<Sighting> all;
  for (const auto& [rank, seen] : seen_) {
    all.push_back({.state = seen.state,
                   .silent_s = now_s_ - seen.beat_at_s,
                   .idle_s = now_s_ - seen.progress_at_s,
                   .process = seen.process});
  }
  return all;
}

double Sightings::silent_s(int rank) const {
  const auto found = seen_.find(rank);
  return found == seen_.end() ? 0 : now_s_ - found->second.beat_at_s;
}

}  // namespace shoal
