// core/train/slow_links.cpp: medians of medians, the best of three probes, a sentence.
#include "core/train/slow_links.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/train/progress.h"

namespace shoal {

namespace {

constexpr double kSlow = 2;  // times as long as elsewhere
constexpr size_t kWindow = 10;
constexpr double kWaitsS = 0.005, kWaitsShare = 0.1;   // of a step, to look at links at all
constexpr double kWorthS = 0.002, kWorthShare = 0.02;  // of a step, lost by a link, to name it
constexpr int kProbes = 3;
constexpr int64_t kStepsBetweenProbes = 5, kStepsBetween = 200;
constexpr double kOfTheTime = 1e-3;
// A step's bytes to a message's: a few dozen messages cost less than a step's own.
constexpr int64_t kMessagesInStep = 64;
constexpr int64_t kFewestBytes = 64 << 10, kMostBytes = 4 << 20;

// The lower one of two: with two values the better is the measure.
double lower_median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[(values.size() - 1) / 2];
}

// Of one class, by an end.
using ByRank = std::map<int, std::vector<double>>;

// Ranks with at least two such links, of which even the best is slow.
std::map<int, double> slow_ranks(const ByRank& times, double& usual_s) {
  std::vector<double> best;
  for (const auto& [rank, of_rank] : times) best.push_back(*std::ranges::min_element(of_rank));
  usual_s = lower_median(best);
  std::map<int, double> slow;
  for (const auto& [rank, of_rank] : times) {
    const double own_s = *std::ranges::min_element(of_rank);
    if (of_rank.size() > 1 && own_s >= kSlow * usual_s) slow[rank] = own_s;
  }
  return slow;
}

void find_in_class(LinkClass link, const std::vector<LinkTime>& links, std::vector<SlowLink>& found) {
  ByRank out, in;
  std::vector<double> all;
  for (const LinkTime& time : links) {
    if (time.link != link) continue;
    out[time.from].push_back(time.seconds);
    in[time.to].push_back(time.seconds);
    all.push_back(time.seconds);
  }
  if (all.empty()) return;
  double usual_out_s = 0, usual_in_s = 0;
  const std::map<int, double> slow_out = slow_ranks(out, usual_out_s), slow_in = slow_ranks(in, usual_in_s);
  for (const auto& [rank, seconds] : slow_out) {
    found.push_back({.link = link, .from = rank, .to = -1, .seconds = seconds, .usual_s = usual_out_s});
  }
  for (const auto& [rank, seconds] : slow_in) {
    found.push_back({.link = link, .from = -1, .to = rank, .seconds = seconds, .usual_s = usual_in_s});
  }
  const double usual_s = lower_median(all);
  for (const LinkTime& time : links) {
    if (time.link != link || slow_out.contains(time.from) || slow_in.contains(time.to)) continue;
    const std::vector<double>&of_from = out[time.from], &of_to = in[time.to];
    const double of_ends_s =
        of_from.size() > 1 && of_to.size() > 1 ? std::max(lower_median(of_from), lower_median(of_to)) : usual_s;
    if (time.seconds < kSlow * of_ends_s) continue;
    found.push_back({.link = link, .from = time.from, .to = time.to, .seconds = time.seconds, .usual_s = of_ends_s});
  }
}

// Whom the sender has such links to.
int64_t num_partners(const std::vector<LinkTime>& links, const SlowLink& slow) {
  return std::ranges::count_if(links,
                               [&](const LinkTime& time) { return time.link == slow.link && time.from == slow.from; });
}

// "between ranks 1 and 3", "from and to rank 2", "from rank 0 to rank 1", …
std::string place_of(const SlowLink& slow, bool both_ways) {
  if (slow.from >= 0 && slow.to >= 0) {
    return both_ways ? fmt::format("between ranks {} and {}", slow.from, slow.to)
                     : fmt::format("from rank {} to rank {}", slow.from, slow.to);
  }
  if (both_ways) return fmt::format("from and to rank {}", std::max(slow.from, slow.to));
  return slow.from >= 0 ? fmt::format("from rank {}", slow.from) : fmt::format("to rank {}", slow.to);
}

std::string describe(const SlowLink& slow, bool both_ways, int64_t bytes, double lost_s) {
  return fmt::format(
      "the link {} {} is slow: {} take {:.3g} ms ({:.3g} Gbit/s), {:.1f} times as long as on the links of others; that "
      "is up to {:.0f} ms of a step",
      slow.link == LinkClass::kIntraNode ? "inside a node" : "between nodes", place_of(slow, both_ways),
      format_bytes(bytes), slow.seconds * 1e3, static_cast<double>(bytes) * 8e-9 / slow.seconds,
      slow.seconds / slow.usual_s, lost_s * 1e3);
}

}  // namespace

std::vector<SlowLink> find_slow_links(const std::vector<LinkTime>& links) {
  std::vector<SlowLink> found;
  for (const LinkClass link : {LinkClass::kIntraNode, LinkClass::kInterNode}) find_in_class(link, links, found);
  return found;
}

std::optional<std::array<int64_t, kNumLinkClasses>> LinkWatch::add(const Step& step) {
  since_probes_s_ += step.step_s;
  window_.push_back(step);
  if (window_.size() > kWindow) window_.pop_front();
  if (window_.size() < kWindow || step.number < next_step_) return {};
  if (num_probes_ > 0) return best_.message_bytes;
  if (since_probes_s_ * kOfTheTime < probes_s_) return {};
  const Step mean = mean_step();
  if (mean.waits_s < std::max(kWaitsS, kWaitsShare * mean.step_s)) return {};
  since_probes_s_ = probes_s_ = 0;
  std::array<int64_t, kNumLinkClasses> bytes = mean.bytes;
  for (int64_t& of_class : bytes) {
    if (of_class > 0) of_class = std::clamp(of_class / kMessagesInStep, kFewestBytes, kMostBytes);
  }
  if (std::ranges::all_of(bytes, [](int64_t of_class) { return of_class == 0; })) return {};
  return bytes;
}

LinkWatch::Step LinkWatch::mean_step() const {
  Step sum;
  for (const Step& one : window_) {
    sum.step_s += one.step_s;
    sum.waits_s += one.waits_s;
    for (size_t link = 0; link < sum.bytes.size(); ++link) sum.bytes[link] += one.bytes[link];
  }
  sum.step_s /= static_cast<double>(window_.size());
  sum.waits_s /= static_cast<double>(window_.size());
  for (int64_t& of_class : sum.bytes) of_class /= static_cast<int64_t>(window_.size());
  return sum;
}

std::string LinkWatch::found(int64_t step, const LinkTimes& times) {
  probes_s_ += times.took_s;
  if (num_probes_ == 0) best_ = times;
  SHOAL_CHECK_EQ(best_.links.size(), times.links.size());
  for (size_t i = 0; i < times.links.size(); ++i) {
    best_.links[i].seconds = std::min(best_.links[i].seconds, times.links[i].seconds);
  }
  const Step mean = mean_step();
  std::map<std::array<int, 3>, std::pair<SlowLink, double>> slow;  // by class and ends; and what a step loses
  for (const SlowLink& one : find_slow_links(best_.links)) {
    const auto link = static_cast<size_t>(one.link);
    // Of a rank's messages; those that take this link.
    double messages =
        static_cast<double>(mean.bytes[link]) / static_cast<double>(std::max<int64_t>(1, best_.message_bytes[link]));
    if (one.from >= 0 && one.to >= 0) messages /= static_cast<double>(num_partners(best_.links, one));
    const double lost_s = messages * (one.seconds - one.usual_s);
    if (lost_s < std::max(kWorthS, kWorthShare * mean.step_s)) continue;
    slow[{static_cast<int>(one.link), one.from, one.to}] = {one, lost_s};
  }
  ++num_probes_;
  if (!slow.empty() && num_probes_ < kProbes) {
    next_step_ = step + kStepsBetweenProbes;
    return {};
  }
  next_step_ = step + kStepsBetween;
  num_probes_ = 0;
  std::string text;
  for (const auto& [key, one] : slow) {
    const auto& [link, lost_s] = one;
    const auto back = slow.find({key[0], key[2], key[1]});
    const bool both_ways = back != slow.end();
    if (both_ways && back->first < key) continue;  // told already
    text += fmt::format("{}{}", text.empty() ? "" : "; ",
                        describe(link, both_ways, best_.message_bytes[static_cast<size_t>(link.link)], lost_s));
  }
  return text;
}

}  // namespace shoal
