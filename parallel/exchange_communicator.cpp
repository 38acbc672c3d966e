// parallel/exchange_communicator.cpp: which bytes go where, and what is summed when they are there.
#include "parallel/exchange_communicator.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "core/base/nvtx.h"
#include "parallel/flight_recorder.h"

namespace shoal {

namespace {

CollectiveCall all_reduce_call(const Tensor& x) {
  return {.verb = Verb::kAllReduce, .dtype = x.dtype(), .count = x.numel()};
}

Tensor flat(const Tensor& x) {
  SHOAL_CHECK(x.defined() && x.contiguous(), "a dense tensor is needed, got {}", x.shape());
  return x.reshape({x.numel()});
}

// The address of an element; null on kSimulated, where no address may be computed.
std::byte* address(const Tensor& x, int64_t element) {
  return x.raw() == nullptr ? nullptr : x.raw() + element * size_of(x.dtype());
}

bool overlap(const Tensor& a, const Tensor& b) {
  if (a.raw() == nullptr || a.bytes() == 0 || b.bytes() == 0) return false;
  return a.raw() < b.raw() + b.bytes() && b.raw() < a.raw() + a.bytes();
}

std::vector<int64_t> begins_of(const std::vector<int64_t>& counts) {
  std::vector<int64_t> begins(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), begins.begin(), int64_t{0});
  return begins;
}

// Elements of each rank's rows, and the check that the rows are all there.
std::vector<int64_t> element_counts(const Tensor& x, const std::vector<int64_t>& rows, int size, const char* name) {
  SHOAL_CHECK(static_cast<int>(rows.size()) == size, "{} row counts of {} for {} ranks", rows.size(), name, size);
  SHOAL_CHECK(x.dims() >= 1 && std::ranges::none_of(rows, [](int64_t n) { return n < 0; }), "{} {}", name, x.shape());
  const int64_t total = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  SHOAL_CHECK(total == x.size(0), "{} is {}, its row counts add up to {}", name, x.shape(), total);
  std::vector<int64_t> counts = rows;
  for (int64_t& count : counts) count *= x.shape().row_numel();
  return counts;
}

// That `part` [rows, …] is some of the rows of `whole`.
void check_own_rows(const Tensor& part, const char* name, const Tensor& whole, int64_t rows) {
  SHOAL_CHECK(part.dims() >= 1 && part.size(0) == rows && part.shape().row_numel() == whole.shape().row_numel(),
              "{} is {}, expected {} rows like those of {}", name, part.shape(), rows, whole.shape());
}

// Nothing moves; the buffers are held until someone asks, as they are while a transfer is in flight.
class TimelessOperation : public Operation {
 public:
  explicit TimelessOperation(std::vector<Tensor> buffers) : buffers_(std::move(buffers)) {}
  bool done() override {
    buffers_.clear();
    return true;
  }
  void wait() override { buffers_.clear(); }

 private:
  std::vector<Tensor> buffers_;
};

}  // namespace

int ExchangeCommunicator::index_in_group(const std::vector<int>& ranks) const {
  const std::set<int> distinct(ranks.begin(), ranks.end());
  SHOAL_CHECK(distinct.size() == ranks.size() && distinct.contains(rank()) && *distinct.begin() >= 0 &&
                  *distinct.rbegin() < size(),
              "rank {} of {} cannot be in a group of ranks {}", rank(), size(), fmt::join(ranks, ", "));
  return static_cast<int>(std::ranges::find(ranks, rank()) - ranks.begin());
}

ExchangeCommunicator::~ExchangeCommunicator() {
  if (flight_ != nullptr) flight_->remove_group(flight_slot_);
}

void ExchangeCommunicator::set_name(std::string_view name) {
  name_ = std::make_shared<const std::string>(name);
  if (flight_ != nullptr) flight_->rename_group(flight_slot_, name);
}

void ExchangeCommunicator::record_in(std::shared_ptr<FlightRecorder> flight, Completion completion) {
  flight_ = std::move(flight);
  if (flight_ == nullptr) return;
  flight_slot_ = flight_->add_group(id(), name_ == nullptr ? std::string_view() : std::string_view(*name_), size(),
                                    completion == Completion::kOnDevice);
}

OperationPtr ExchangeCommunicator::play(const std::vector<Round>& /*rounds*/, std::vector<Tensor> buffers) {
  return std::make_shared<TimelessOperation>(std::move(buffers));
}

Round ExchangeCommunicator::new_round(const Tensor& like) {
  Round round;
  round.tag = next_tag_++;
  round.queue = local_queue(like);
  return round;
}

// Without addresses on kSimulated.
void ExchangeCommunicator::add_messages(std::vector<Message>& messages, int peer, const Tensor& x, int64_t begin,
                                        int64_t bytes) const {
  std::byte* const first = address(x, begin);
  for (int64_t at = 0; at < bytes; at += max_message_bytes_) {
    messages.push_back({peer, first == nullptr ? nullptr : first + at, std::min(max_message_bytes_, bytes - at)});
  }
}

void ExchangeCommunicator::add_send(Round& round, int peer, const Tensor& x, int64_t begin, int64_t count) {
  const int64_t bytes = count * size_of(x.dtype());
  const bool metadata = x.dtype() == DType::kI64 || x.dtype() == DType::kI32;
  (metadata ? bytes_.metadata : bytes_.payload)[static_cast<size_t>(link(peer))] += bytes;
  add_messages(round.sends, peer, x, begin, bytes);
}

void ExchangeCommunicator::add_receive(Round& round, int peer, const Tensor& x, int64_t begin, int64_t count) const {
  add_messages(round.receives, peer, x, begin, count * size_of(x.dtype()));
}

void ExchangeCommunicator::count_own(const Tensor& x, int64_t count) {
  const bool metadata = x.dtype() == DType::kI64 || x.dtype() == DType::kI32;
  (metadata ? bytes_.metadata : bytes_.payload)[static_cast<size_t>(LinkClass::kSelf)] += count * size_of(x.dtype());
}

Tensor ExchangeCommunicator::scratch_for(int64_t pieces, int64_t count, const Tensor& like) const {
  if (pieces == 0) return {};
  SHOAL_CHECK(scratch_ != nullptr && scratch_->device() == like.device(), "no scratch memory on the tensor's device");
  return Tensor::empty({pieces, count}, like.dtype(), *scratch_, MemoryKind::kWorkspace);
}

OperationPtr ExchangeCommunicator::post(const CollectiveCall& call, std::vector<Round> rounds,
                                        std::vector<Tensor> buffers, DeviceKind device) {
  if (device == DeviceKind::kSimulated) return play(rounds, std::move(buffers));
  last_call_ = following(last_call_, call);
  return start(std::make_shared<Exchange>(std::move(rounds), std::move(buffers),
                                          ExchangeOrigin{.call = last_call_,
                                                         .group = id(),
                                                         .group_name = name_,
                                                         .rank = rank(),
                                                         .size = size(),
                                                         .flight = flight_,
                                                         .slot = flight_slot_}));
}

OperationPtr ExchangeCommunicator::all_to_all_rows(Tensor out, std::vector<int64_t> out_rows, Tensor in,
                                                   std::vector<int64_t> in_rows) {
  const NvtxRange range("all_to_all_rows");
  SHOAL_CHECK(out.dtype() == in.dtype() && out.device() == in.device(), "rows of {} to rows of {}", name_of(in.dtype()),
              name_of(out.dtype()));
  const std::vector<int64_t> out_counts = element_counts(out, out_rows, size(), "out");
  const std::vector<int64_t> in_counts = element_counts(in, in_rows, size(), "in");
  SHOAL_CHECK_EQ(out.shape().row_numel(), in.shape().row_numel());
  const size_t me = static_cast<size_t>(rank());
  SHOAL_CHECK(out_rows[me] == in_rows[me], "a rank sends itself {} rows and expects {}", in_rows[me], out_rows[me]);
  const Tensor to = flat(out);
  const Tensor from = flat(in);
  SHOAL_CHECK(!overlap(to, from), "out overlaps in");

  const std::vector<int64_t> out_begins = begins_of(out_counts);
  const std::vector<int64_t> in_begins = begins_of(in_counts);
  Round round = new_round(from);
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + step) % size();
    const size_t p = static_cast<size_t>(peer);
    add_send(round, peer, from, in_begins[p], in_counts[p]);
    add_receive(round, peer, to, out_begins[p], out_counts[p]);
  }
  count_own(from, in_counts[me]);
  round.own = {address(to, out_begins[me]), address(from, in_begins[me]), in_counts[me] * size_of(to.dtype())};
  const CollectiveCall call{.verb = Verb::kAllToAllRows, .dtype = in.dtype(), .count = in.shape().row_numel()};
  return post(call, {std::move(round)}, {out, in}, in.device());
}

// Every rank's range of the flat `out` goes from that rank to all others.
Round ExchangeCommunicator::gather_round(const Tensor& out, const std::vector<int64_t>& begins,
                                         const std::vector<int64_t>& counts) {
  Round round = new_round(out);
  const size_t me = static_cast<size_t>(rank());
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + step) % size();
    const size_t p = static_cast<size_t>(peer);
    add_send(round, peer, out, begins[me], counts[me]);
    add_receive(round, peer, out, begins[p], counts[p]);
  }
  count_own(out, counts[me]);
  const bool equal = std::ranges::all_of(counts, [&](int64_t count) { return count == counts[0]; });
  if (equal && counts[0] > 0) {
    round.collective = {
        .kind = Collective::Kind::kAllGather, .data = out.raw(), .bytes = counts[0] * size_of(out.dtype())};
  }
  return round;
}

// Every rank's range of the flat `in` is summed on that rank, beginning with `onto` if there is one, into `out`, which
// may be either.
Round ExchangeCommunicator::reduce_round(Tensor out, const Tensor& in, const Tensor& onto,
                                         const std::vector<int64_t>& begins, const std::vector<int64_t>& counts,
                                         std::vector<Tensor>& buffers) {
  Round round = new_round(in);
  const size_t me = static_cast<size_t>(rank());
  const int64_t count = counts[me];
  const Tensor arrived = scratch_for(size() - 1, count, in);
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + step) % size();
    const size_t p = static_cast<size_t>(peer);
    add_send(round, peer, in, begins[p], counts[p]);
    add_receive(round, peer, arrived, (peer > rank() ? peer - 1 : peer) * count, count);
  }
  count_own(in, count);
  if (in.raw() != nullptr) {
    round.sum = {.out = out.raw(),
                 .onto = onto.raw(),
                 .own = address(in, begins[me]),
                 .arrived = arrived.raw(),
                 .own_rank = rank(),
                 .num_ranks = size(),
                 .count = count,
                 .dtype = in.dtype()};
  }
  buffers.push_back(arrived);
  return round;
}

// The piece goes to its place in `out`, and from there to all others.
OperationPtr ExchangeCommunicator::gather(const CollectiveCall& call, const Tensor& out,
                                          const std::vector<int64_t>& counts, const Tensor& piece) {
  SHOAL_CHECK(out.dtype() == piece.dtype() && out.device() == piece.device(), "pieces of {} into {}",
              name_of(piece.dtype()), name_of(out.dtype()));
  const Tensor to = flat(out);
  const Tensor from = flat(piece);
  const std::vector<int64_t> begins = begins_of(counts);
  std::byte* const place = address(to, begins[static_cast<size_t>(rank())]);
  if (from.raw() != place) {
    SHOAL_CHECK(!overlap(to, from), "the piece overlaps out, but is not this rank's place in it");
    copy_own({place, from.raw(), piece.bytes()}, out.queue());
  }
  return post(call, {gather_round(to, begins, counts)}, {out, piece}, out.device());
}

OperationPtr ExchangeCommunicator::all_gather(Tensor out, Tensor piece) {
  const NvtxRange range("all_gather");
  SHOAL_CHECK(out.numel() == piece.numel() * size(), "{} ranks' pieces of {} do not make {}", size(), piece.shape(),
              out.shape());
  return gather({.verb = Verb::kAllGather, .dtype = out.dtype(), .count = piece.numel()}, out,
                std::vector<int64_t>(static_cast<size_t>(size()), piece.numel()), piece);
}

OperationPtr ExchangeCommunicator::all_gather_rows(Tensor out, std::vector<int64_t> rows, Tensor piece) {
  const NvtxRange range("all_gather_rows");
  const std::vector<int64_t> counts = element_counts(out, rows, size(), "out");
  check_own_rows(piece, "piece", out, rows[static_cast<size_t>(rank())]);
  return gather({.verb = Verb::kAllGatherRows, .dtype = out.dtype(), .count = out.numel(), .rows = hash_of_rows(rows)},
                out, counts, piece);
}

OperationPtr ExchangeCommunicator::reduce(const CollectiveCall& call, const Tensor& out, const Tensor& in,
                                          const Tensor& onto, const std::vector<int64_t>& counts) {
  SHOAL_CHECK(out.dtype() == in.dtype() && out.device() == in.device() && is_summed(in.dtype()), "sums of {} into {}",
              name_of(in.dtype()), name_of(out.dtype()));
  const Tensor to = flat(out);
  const Tensor from = flat(in);
  const std::vector<int64_t> begins = begins_of(counts);
  SHOAL_CHECK(to.raw() == address(from, begins[static_cast<size_t>(rank())]) || !overlap(to, from),
              "out overlaps in, but is not this rank's piece of it");
  Tensor start;
  if (onto.defined()) {
    SHOAL_CHECK(onto.dtype() == in.dtype() && onto.device() == in.device() && onto.numel() == out.numel(),
                "a sum of {} pieces of {} onto {} {}", name_of(in.dtype()), out.shape(), name_of(onto.dtype()),
                onto.shape());
    start = flat(onto);
    SHOAL_CHECK(!overlap(start, from) && (start.raw() == to.raw() || !overlap(start, to)),
                "onto overlaps in, or a part of out");
  }
  std::vector<Tensor> buffers{out, in, onto};
  Round round = reduce_round(to, from, start, begins, counts, buffers);
  return post(call, {std::move(round)}, std::move(buffers), in.device());
}

OperationPtr ExchangeCommunicator::reduce_scatter(Tensor out, Tensor in, Tensor onto) {
  const NvtxRange range("reduce_scatter");
  SHOAL_CHECK(in.numel() == out.numel() * size(), "{} does not fall into {} pieces of {}", in.shape(), size(),
              out.shape());
  return reduce({.verb = Verb::kReduceScatter, .dtype = in.dtype(), .count = out.numel()}, out, in, onto,
                std::vector<int64_t>(static_cast<size_t>(size()), out.numel()));
}

OperationPtr ExchangeCommunicator::reduce_scatter_rows(Tensor out, Tensor in, std::vector<int64_t> rows) {
  const NvtxRange range("reduce_scatter_rows");
  const std::vector<int64_t> counts = element_counts(in, rows, size(), "in");
  check_own_rows(out, "out", in, rows[static_cast<size_t>(rank())]);
  return reduce(
      {.verb = Verb::kReduceScatterRows, .dtype = in.dtype(), .count = in.numel(), .rows = hash_of_rows(rows)}, out, in,
      {}, counts);
}

OperationPtr ExchangeCommunicator::all_reduce_in_one_round(Tensor x) {
  Round round = new_round(x);
  const int64_t count = x.numel();
  const Tensor arrived = scratch_for(size() - 1, count, x);
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + step) % size();
    const int64_t slot = peer > rank() ? peer - 1 : peer;
    add_send(round, peer, x, 0, count);
    add_receive(round, peer, arrived, slot * count, count);
  }
  count_own(x, count);
  if (x.raw() != nullptr) {
    round.sum = {.out = x.raw(),
                 .own = x.raw(),
                 .arrived = arrived.raw(),
                 .own_rank = rank(),
                 .num_ranks = size(),
                 .count = count,
                 .dtype = x.dtype()};
  }
  return post(all_reduce_call(x), {std::move(round)}, {x, arrived}, x.device());
}

OperationPtr ExchangeCommunicator::all_reduce(Tensor tensor) {
  const NvtxRange range("all_reduce");
  SHOAL_CHECK(is_summed(tensor.dtype()), "sums over ranks are not taken in {}", name_of(tensor.dtype()));
  const Tensor x = flat(tensor);
  if (x.bytes() <= kAllReduceInOneRoundBytes) return all_reduce_in_one_round(x);
  const int64_t share = (x.numel() + size() - 1) / size();
  std::vector<int64_t> counts;
  for (int r = 0; r < size(); ++r) counts.push_back(std::clamp<int64_t>(x.numel() - r * share, 0, share));
  const std::vector<int64_t> begins = begins_of(counts);
  const size_t me = static_cast<size_t>(rank());
  std::vector<Tensor> buffers{x};
  std::vector<Round> rounds;
  rounds.push_back(reduce_round(x.rows(begins[me], counts[me]), x, {}, begins, counts, buffers));
  rounds.push_back(gather_round(x, begins, counts));
  return post(all_reduce_call(x), std::move(rounds), std::move(buffers), x.device());
}

OperationPtr ExchangeCommunicator::broadcast(Tensor tensor, int root) {
  const NvtxRange range("broadcast");
  SHOAL_CHECK(root >= 0 && root < size(), "rank {} of {}", root, size());
  const Tensor x = flat(tensor);
  Round round = new_round(x);
  if (x.bytes() > 0) {
    round.collective = {.kind = Collective::Kind::kBroadcast, .data = x.raw(), .bytes = x.bytes(), .root = root};
  }
  if (rank() == root) {
    for (int step = 1; step < size(); ++step) add_send(round, (rank() + step) % size(), x, 0, x.numel());
    count_own(x, x.numel());
  } else {
    add_receive(round, root, x, 0, x.numel());
  }
  return post({.verb = Verb::kBroadcast, .dtype = x.dtype(), .root = root, .count = x.numel()}, {std::move(round)}, {x},
              x.device());
}

OperationPtr ExchangeCommunicator::barrier() {
  const NvtxRange range("barrier");
  Round round = new_round({});
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + step) % size();
    round.sends.push_back({peer, nullptr, 0});
    round.receives.push_back({peer, nullptr, 0});
  }
  return post({.verb = Verb::kBarrier}, {std::move(round)}, {}, DeviceKind::kCpu);
}

}  // namespace shoal
