// parallel/hop_plan.cpp: where a hop's rows go, told to the other side.
#include "parallel/hop_plan.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace shoal {

namespace {

// A choice on the wire.
enum Word { kExpert, kWeight, kHomeRank, kHomeRow, kNumWords };

template <class W>
using WeightOf = std::conditional_t<sizeof(W) == 4, float, double>;

// Rows and choices by destination, in order.
struct Departures {
  std::vector<std::vector<int32_t>> rows;     // [group size][…] input rows
  std::vector<std::vector<int32_t>> choices;  // [group size][…] input choices
};

Departures sort_by_destination(const RouteChoices& choices, const std::vector<int>& destination, int group_size) {
  Departures departures{.rows = std::vector<std::vector<int32_t>>(static_cast<size_t>(group_size)),
                        .choices = std::vector<std::vector<int32_t>>(static_cast<size_t>(group_size))};
  const auto send = [&](size_t to, size_t choice) {
    const int32_t row = choices.row[choice];
    std::vector<int32_t>& rows = departures.rows[to];
    if (rows.empty() || rows.back() != row) rows.push_back(row);
    departures.choices[to].push_back(static_cast<int32_t>(choice));
  };
  for (size_t c = 0; c < choices.size(); ++c) {
    if (!destination.empty()) {
      send(static_cast<size_t>(destination[static_cast<size_t>(choices.expert[c])]), c);
      continue;
    }
    for (size_t to = 0; to < departures.rows.size(); ++to) send(to, c);
  }
  return departures;
}

std::vector<int64_t> sizes_of(const std::vector<std::vector<int32_t>>& lists) {
  std::vector<int64_t> sizes;
  for (const auto& list : lists) sizes.push_back(static_cast<int64_t>(list.size()));
  return sizes;
}

std::vector<int32_t> joined(const std::vector<std::vector<int32_t>>& lists) {
  std::vector<int32_t> all;
  size_t count = 0;
  for (const auto& list : lists) count += list.size();
  all.reserve(count);
  for (const auto& list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}

// For each of `count` items the places, in the joined lists, where it was sent: ascending by destination.
struct ReturnList {
  std::vector<int32_t> first;  // [count + 1]
  std::vector<int32_t> place;
  std::vector<int32_t> destination;  // of each place
};

ReturnList return_list(const std::vector<std::vector<int32_t>>& lists, int64_t count) {
  ReturnList returns;
  returns.first.resize(static_cast<size_t>(count + 1));
  for (const auto& list : lists) {
    for (const int32_t item : list) ++returns.first[static_cast<size_t>(item + 1)];
  }
  std::partial_sum(returns.first.begin(), returns.first.end(), returns.first.begin());
  std::vector<int32_t> next(returns.first.begin(), returns.first.end() - 1);
  returns.place.resize(static_cast<size_t>(returns.first.back()));
  returns.destination.resize(returns.place.size());
  int32_t place = 0;
  for (size_t to = 0; to < lists.size(); ++to) {
    for (const int32_t item : lists[to]) {
      const auto at = static_cast<size_t>(next[static_cast<size_t>(item)]++);
      returns.place[at] = place++;
      returns.destination[at] = static_cast<int32_t>(to);
    }
  }
  return returns;
}

// Sums over ranks of one node come first: where each node's run begins in the return list.
void list_combine(HopLists& lists, ReturnList rows, const Communicator& group) {
  std::vector<int32_t> first{0}, groups{0};
  for (size_t row = 0; row + 1 < rows.first.size(); ++row) {
    for (int32_t at = rows.first[row]; at < rows.first[row + 1]; ++at) {
      const auto node_of = [&](int32_t place) { return group.node(rows.destination[static_cast<size_t>(place)]); };
      if (at > rows.first[row] && node_of(at) != node_of(at - 1)) groups.push_back(at);
    }
    if (rows.first[row + 1] > rows.first[row]) groups.push_back(rows.first[row + 1]);
    first.push_back(static_cast<int32_t>(groups.size()) - 1);
  }
  lists.first = IndexList(std::move(first));
  lists.groups = IndexList(std::move(groups));
  lists.returned = IndexList(std::move(rows.place));
}

Tensor index_tensor(const IndexList& list, Stream& stream) {
  Tensor tensor = stream.activation(Shape{list.size}, DType::kI32);
  if (!list.values.empty()) tensor.copy_from(list.values);
  return tensor;
}

template <class W>
Tensor words_of(const RouteChoices& choices, const IndexList& sent, Stream& stream) {
  Tensor tensor = stream.workspace({sent.size, kNumWords}, DTypeOf<W>::value);
  if (sent.values.empty()) return tensor;
  std::vector<W> words;
  words.reserve(sent.values.size() * kNumWords);
  for (const int32_t choice : sent.values) {
    const auto c = static_cast<size_t>(choice);
    const W weight = std::bit_cast<W>(static_cast<WeightOf<W>>(choices.weight[c]));
    words.insert(words.end(), {static_cast<W>(choices.expert[c]), weight, static_cast<W>(choices.home_rank[c]),
                               static_cast<W>(choices.home_row[c])});
  }
  tensor.copy_from(words);
  return tensor;
}

// Arrived choices for a device without contents: each peer's rows share its choices evenly, over the experts in turn.
template <class W>
std::vector<W> imagined_words(const HopPlan& plan, const std::vector<int32_t>& reached) {
  std::vector<W> words;
  words.reserve(static_cast<size_t>(plan.total_choices_received()) * kNumWords);
  std::vector<int32_t> experts;  // of a row
  size_t next = 0;
  for (size_t peer = 0; peer < plan.rows_received.size(); ++peer) {
    const int64_t rows = plan.rows_received[peer], choices = plan.choices_received[peer];
    for (int64_t row = 0; row < rows; ++row) {
      experts.clear();
      for (int64_t c = choices * row / rows; c < choices * (row + 1) / rows; ++c) {
        experts.push_back(reached[next++ % reached.size()]);
      }
      std::ranges::sort(experts);
      for (const int32_t e : experts) {
        words.insert(words.end(), {static_cast<W>(e), W{0}, static_cast<W>(peer), static_cast<W>(row)});
      }
    }
  }
  return words;
}

template <class W>
RouteChoices choices_of(const std::vector<W>& words, const HopPlan& plan) {
  RouteChoices arrived;
  const size_t count = words.size() / kNumWords;
  for (std::vector<int32_t>* list : {&arrived.row, &arrived.expert, &arrived.home_rank, &arrived.home_row}) {
    list->reserve(count);
  }
  arrived.weight.reserve(count);
  int32_t row = -1;
  size_t at = 0;
  for (const int64_t of_peer : plan.choices_received) {
    for (int64_t i = 0; i < of_peer; ++i, at += kNumWords) {
      const auto home_rank = static_cast<int32_t>(words[at + kHomeRank]);
      const auto home_row = static_cast<int32_t>(words[at + kHomeRow]);
      // A peer's rows come one after the other, each a token of its own.
      if (i == 0 || home_rank != arrived.home_rank.back() || home_row != arrived.home_row.back()) ++row;
      arrived.row.push_back(row);
      arrived.expert.push_back(static_cast<int32_t>(words[at + kExpert]));
      arrived.home_rank.push_back(home_rank);
      arrived.home_row.push_back(home_row);
      arrived.weight.push_back(std::bit_cast<WeightOf<W>>(words[at + kWeight]));
    }
  }
  arrived.rows = row + 1;
  SHOAL_CHECK_EQ(arrived.rows, plan.total_rows_received());
  return arrived;
}

// What every rank will send: rows and choices, learned before anything else travels.
Task<void> exchange_counts(HopPlan& plan, Lane& lane) {
  Stream& stream = lane.compute();
  const int64_t peers = plan.group->size();
  std::vector<int64_t> sent;
  for (size_t peer = 0; peer < plan.rows_sent.size(); ++peer) {
    sent.push_back(plan.rows_sent[peer]);
    sent.push_back(plan.choices_sent[peer]);
  }
  const Tensor out = stream.workspace({peers, 2}, DType::kI64);
  const Tensor in = stream.workspace({peers, 2}, DType::kI64);
  in.copy_from(sent);
  const std::vector<int64_t> ones(static_cast<size_t>(peers), 1);
  co_await lane.wire_in_place(plan.group->all_to_all_rows(out, ones, in, ones), WireKind::kRowCounts);
  // A simulated group is alike all over: what goes to a rank comes from it too.
  const std::vector<int64_t> received = read_to_host<int64_t>(out, stream, [&] { return sent; });
  for (size_t peer = 0; peer < plan.rows_sent.size(); ++peer) {
    plan.rows_received.push_back(received[2 * peer]);
    plan.choices_received.push_back(received[2 * peer + 1]);
  }
}

template <class W>
ArrivingChoices post_choices(const HopPlan& plan, const RouteChoices& choices, const IndexList& sent, Stream& stream) {
  ArrivingChoices arriving;
  const Tensor in = words_of<W>(choices, sent, stream);
  arriving.words = stream.workspace({plan.total_choices_received(), kNumWords}, DTypeOf<W>::value);
  arriving.sending = plan.group->all_to_all_rows(arriving.words, plan.choices_received, in, plan.choices_sent);
  return arriving;
}

template <class W>
RouteChoices read_choices(const Tensor& words, const HopPlan& plan, const Hop& hop, Stream& stream) {
  return choices_of<W>(read_to_host<W>(words, stream, [&] { return imagined_words<W>(plan, hop.reached); }), plan);
}

}  // namespace

void HopLists::keep_sizes_only() {
  for (IndexList* list : {&send_row, &first, &groups, &returned, &choice_first, &choice_returned, &sent}) {
    list->keep_size_only();
  }
}

HopLists list_hop(const Hop& hop, const RouteChoices& choices) {
  const Departures departures = sort_by_destination(choices, hop.destination, hop.group->size());
  HopLists lists;
  lists.rows_sent = sizes_of(departures.rows);
  lists.choices_sent = sizes_of(departures.choices);
  lists.send_row = IndexList(joined(departures.rows));
  list_combine(lists, return_list(departures.rows, choices.rows), *hop.group);
  ReturnList returned = return_list(departures.choices, static_cast<int64_t>(choices.size()));
  lists.choice_first = IndexList(std::move(returned.first));
  lists.choice_returned = IndexList(std::move(returned.place));
  lists.sent = IndexList(joined(departures.choices));
  return lists;
}

Task<ArrivingChoices> begin_hop(HopPlan& plan, const Hop& hop, const HopLists& lists, const RouteChoices& choices,
                                DType weights, Lane& lane) {
  Stream& stream = lane.compute();
  plan.group = hop.group;
  plan.rows_sent = lists.rows_sent;
  plan.choices_sent = lists.choices_sent;
  plan.send_row = index_tensor(lists.send_row, stream);
  plan.first = index_tensor(lists.first, stream);
  plan.groups = index_tensor(lists.groups, stream);
  plan.returned = index_tensor(lists.returned, stream);
  plan.choice_first = index_tensor(lists.choice_first, stream);
  plan.choice_returned = index_tensor(lists.choice_returned, stream);
  co_await exchange_counts(plan, lane);
  if (weights == DType::kF64) co_return post_choices<int64_t>(plan, choices, lists.sent, stream);
  co_return post_choices<int32_t>(plan, choices, lists.sent, stream);
}

Task<RouteChoices> finish_hop(ArrivingChoices arriving, const HopPlan& plan, const Hop& hop, Lane& lane) {
  co_await lane.wire_in_place(std::move(arriving.sending), WireKind::kRowCounts);
  Stream& stream = lane.compute();
  if (arriving.words.dtype() == DType::kI64) co_return read_choices<int64_t>(arriving.words, plan, hop, stream);
  co_return read_choices<int32_t>(arriving.words, plan, hop, stream);
}

Task<void> await_choices(ArrivingChoices arriving, Lane& lane) {
  co_await lane.wire_in_place(std::move(arriving.sending), WireKind::kRowCounts);
}

}  // namespace shoal
