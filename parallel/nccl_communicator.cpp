// parallel/nccl_communicator.cpp: which tensors go which way, and who is in a group.
#include "parallel/nccl_communicator.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "parallel/nccl_exchange.h"

namespace shoal {

namespace {

std::vector<int> ranks_below(int size) {
  std::vector<int> ranks(static_cast<size_t>(size));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

}  // namespace

NcclCommunicator::NcclCommunicator(std::shared_ptr<Communicator> host, Allocator& scratch, const NcclLibrary& library,
                                   const NcclOptions& options)
    : NcclCommunicator(std::move(host), std::make_shared<NcclRuntime>(library, scratch), {}, 0, Traffic::kCritical) {
  runtime_->own_pieces_too = options.own_pieces_too;
  gpu_->connect();
}

NcclCommunicator::NcclCommunicator(std::shared_ptr<Communicator> host, std::shared_ptr<NcclRuntime> runtime,
                                   std::vector<int> members, int num_ranks, Traffic traffic)
    : host_(std::move(host)),
      runtime_(std::move(runtime)),
      members_(members.empty() ? ranks_below(host_->size()) : std::move(members)),
      num_ranks_(num_ranks > 0 ? num_ranks : host_->size()),
      traffic_(traffic),
      gpu_(std::make_unique<NcclExchange>(host_, runtime_,
                                          traffic_ == Traffic::kBulk ? runtime_->bulk : runtime_->critical, who())) {}

NcclCommunicator::~NcclCommunicator() = default;

std::string NcclCommunicator::who() const {
  std::string text = fmt::format("rank {} of {}", members_[static_cast<size_t>(rank())], num_ranks_);
  if (size() < num_ranks_) {
    constexpr size_t kMostNamed = 16;
    const size_t named = std::min(members_.size(), kMostNamed);
    text += fmt::format(" (in the group of ranks {}{})", fmt::join(members_.begin(), members_.begin() + named, ", "),
                        named < members_.size() ? ", …" : "");
  }
  return text;
}

void NcclCommunicator::set_name(std::string_view name) {
  name_ = name;
  if (traffic_ == Traffic::kCritical) host_->set_name(fmt::format("{} on the host", name));
  gpu_->set_name(traffic_ == Traffic::kBulk ? fmt::format("{}, bulk", name) : std::string(name));
  if (bulk_ != nullptr) bulk_->set_name(name);
}

Communicator& NcclCommunicator::mover(const Tensor& x) const {
  if (x.device() == DeviceKind::kCuda) return *gpu_;
  return *host_;
}

OperationPtr NcclCommunicator::all_to_all_rows(Tensor out, std::vector<int64_t> out_rows, Tensor in,
                                               std::vector<int64_t> in_rows) {
  return mover(in).all_to_all_rows(out, std::move(out_rows), in, std::move(in_rows));
}
OperationPtr NcclCommunicator::all_gather(Tensor out, Tensor piece) { return mover(out).all_gather(out, piece); }
OperationPtr NcclCommunicator::all_gather_rows(Tensor out, std::vector<int64_t> rows, Tensor piece) {
  return mover(out).all_gather_rows(out, std::move(rows), piece);
}
OperationPtr NcclCommunicator::reduce_scatter(Tensor out, Tensor in, Tensor onto) {
  return mover(in).reduce_scatter(out, in, onto);
}
OperationPtr NcclCommunicator::reduce_scatter_rows(Tensor out, Tensor in, std::vector<int64_t> rows) {
  return mover(in).reduce_scatter_rows(out, in, std::move(rows));
}
OperationPtr NcclCommunicator::all_reduce(Tensor x) { return mover(x).all_reduce(x); }
OperationPtr NcclCommunicator::broadcast(Tensor x, int root) { return mover(x).broadcast(x, root); }
// Of the hosts, as everywhere.
OperationPtr NcclCommunicator::barrier() { return host_->barrier(); }

std::unique_ptr<Communicator> NcclCommunicator::group(const std::vector<int>& ranks) {
  std::shared_ptr<Communicator> part = host_->group(ranks);  // refuses lists that are none
  std::vector<int> members;
  for (const int rank : ranks) members.push_back(members_[static_cast<size_t>(rank)]);
  return std::unique_ptr<Communicator>(
      new NcclCommunicator(std::move(part), runtime_, std::move(members), num_ranks_, traffic_));
}

Communicator& NcclCommunicator::bulk() {
  if (traffic_ == Traffic::kBulk) return *this;
  if (bulk_ == nullptr) {
    bulk_.reset(new NcclCommunicator(host_, runtime_, members_, num_ranks_, Traffic::kBulk));
    bulk_->set_name(name_);
  }
  return *bulk_;
}

// The host's are counted once, by whom they are shared with, without what it took to connect.
WireBytes NcclCommunicator::bytes() const {
  if (traffic_ == Traffic::kBulk) return gpu_->bytes();
  WireBytes total = host_->bytes() + gpu_->bytes() - gpu_->bytes_to_connect();
  if (bulk_ != nullptr) total += bulk_->gpu_->bytes() - bulk_->gpu_->bytes_to_connect();
  return total;
}

}  // namespace shoal
