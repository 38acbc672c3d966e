// core/train/link_probe.cpp: whose turn it is; to meet, a long message, an answer.
#include "core/train/link_probe.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/base/steady_clock.h"

namespace shoal {

namespace {

constexpr int kMostPartners = 16;
constexpr int kTimes = 3;  // the best counts
constexpr int64_t kRowBytes = 1024;
constexpr double kNever = std::numeric_limits<double>::infinity();

// Distances to partners among `size`: all, or some that are evenly spread.
std::vector<int> distances(int size) {
  const int all = size - 1, some = std::min(all, kMostPartners);
  std::vector<int> chosen;
  for (int i = 0; i < some; ++i) chosen.push_back(1 + i * all / some);
  return chosen;
}

// In as many turns as it takes for no rank to be in two pairs at a time: up to three, as who sends to whom are circles.
void add_turns(std::vector<LinkTurn>& turns, LinkClass link, std::vector<int> to) {
  while (std::ranges::any_of(to, [](int partner) { return partner >= 0; })) {
    LinkTurn turn{.link = link, .to = std::vector<int>(to.size(), -1)};
    std::vector<char> busy(to.size(), 0);
    for (size_t from = 0; from < to.size(); ++from) {
      if (to[from] < 0 || busy[from] != 0 || busy[static_cast<size_t>(to[from])] != 0) continue;
      busy[from] = busy[static_cast<size_t>(to[from])] = 1;
      turn.to[from] = std::exchange(to[from], -1);
    }
    turns.push_back(std::move(turn));
  }
}

// Rows to one rank and from another; -1: nobody.
void exchange(Communicator& world, const Tensor& out, int from, const Tensor& in, int to, int64_t rows) {
  std::vector<int64_t> in_rows(static_cast<size_t>(world.size()), 0), out_rows = in_rows;
  if (to >= 0) in_rows[static_cast<size_t>(to)] = rows;
  if (from >= 0) out_rows[static_cast<size_t>(from)] = rows;
  wait(world.all_to_all_rows(out.rows(0, from >= 0 ? rows : 0), out_rows, in.rows(0, to >= 0 ? rows : 0), in_rows));
}

}  // namespace

std::vector<LinkTurn> link_turns(const std::vector<int>& nodes) {
  std::vector<std::vector<int>> ranks_of;  // each node
  for (int rank = 0; rank < static_cast<int>(nodes.size()); ++rank) {
    const auto at = static_cast<size_t>(rank);
    if (rank == 0 || nodes[at] != nodes[at - 1]) ranks_of.emplace_back();
    ranks_of.back().push_back(rank);
  }
  size_t most = 0;
  for (const std::vector<int>& ranks : ranks_of) most = std::max(most, ranks.size());
  std::vector<LinkTurn> turns;
  const auto add = [&](LinkClass link, const auto& partner_of) {
    std::vector<int> to(nodes.size(), -1);
    for (size_t node = 0; node < ranks_of.size(); ++node) {
      for (size_t place = 0; place < ranks_of[node].size(); ++place) {
        to[static_cast<size_t>(ranks_of[node][place])] = partner_of(node, place);
      }
    }
    add_turns(turns, link, std::move(to));
  };
  for (const int distance : distances(static_cast<int>(most))) {
    add(LinkClass::kIntraNode, [&](size_t node, size_t place) {
      const std::vector<int>& ranks = ranks_of[node];
      const auto step = static_cast<size_t>(distance);
      return step < ranks.size() ? ranks[(place + step) % ranks.size()] : -1;
    });
  }
  for (const int distance : distances(static_cast<int>(ranks_of.size()))) {
    for (size_t turn_of = 0; turn_of < most; ++turn_of) {
      add(LinkClass::kInterNode, [&](size_t node, size_t place) {
        const std::vector<int>& there = ranks_of[(node + static_cast<size_t>(distance)) % ranks_of.size()];
        return place == turn_of && place < there.size() ? there[place] : -1;
      });
    }
  }
  return turns;
}

LinkTimes probe_links(Communicator& world, Stream& stream, const std::array<int64_t, kNumLinkClasses>& message_bytes) {
  const int64_t begin_ns = steady_ns();
  std::vector<int> nodes;
  for (int rank = 0; rank < world.size(); ++rank) nodes.push_back(world.node(rank));
  std::vector<LinkTurn> turns = link_turns(nodes);
  const auto rows_of = [&](LinkClass link) {
    return (message_bytes[static_cast<size_t>(link)] + kRowBytes - 1) / kRowBytes;
  };
  std::erase_if(turns, [&](const LinkTurn& turn) { return rows_of(turn.link) == 0; });
  const int64_t most_rows = std::max(rows_of(LinkClass::kIntraNode), rows_of(LinkClass::kInterNode));
  const Tensor in = stream.workspace({most_rows, kRowBytes}, DType::kU8);
  const Tensor out = stream.workspace({most_rows, kRowBytes}, DType::kU8);

  std::vector<double> best_s(turns.size() + 1, kNever);
  for (int time = 0; time < kTimes; ++time) {
    for (size_t t = 0; t < turns.size(); ++t) {
      const std::vector<int>& to_of = turns[t].to;
      const auto sender = std::ranges::find(to_of, world.rank());
      const int from = sender == to_of.end() ? -1 : static_cast<int>(sender - to_of.begin());
      const int to = to_of[static_cast<size_t>(world.rank())];
      exchange(world, out, to, in, from, 1);  // the receiver is there
      stream.wait();
      const int64_t begun_ns = steady_ns();
      exchange(world, out, from, in, to, rows_of(turns[t].link));
      stream.wait();  // it has come, before it is answered
      exchange(world, out, to, in, from, 1);
      stream.wait();
      best_s[t] = std::min(best_s[t], static_cast<double>(steady_ns() - begun_ns) * 1e-9);
    }
  }
  best_s.back() = static_cast<double>(steady_ns() - begin_ns) * 1e-9;

  const Tensor all = stream.workspace({world.size(), static_cast<int64_t>(best_s.size())}, DType::kF64);
  all[world.rank()].copy_from(best_s);
  wait(world.all_gather(all, all[world.rank()]));
  std::vector<std::vector<double>> seen_s;  // by each rank
  for (int rank = 0; rank < world.size(); ++rank) seen_s.push_back(all[rank].to_vector<double>());
  LinkTimes times{.message_bytes = message_bytes, .links = {}, .took_s = 0};
  for (const std::vector<double>& seen : seen_s) times.took_s = std::max(times.took_s, seen.back());
  for (size_t t = 0; t < turns.size(); ++t) {
    for (int from = 0; from < world.size(); ++from) {
      const int to = turns[t].to[static_cast<size_t>(from)];
      if (to < 0) continue;
      times.links.push_back(
          {.from = from, .to = to, .link = turns[t].link, .seconds = seen_s[static_cast<size_t>(from)][t]});
    }
  }
  return times;
}

}  // namespace shoal
