// parallel/thread_communicator.cpp: a thread a rank, and what it says to the hub.
#include "parallel/thread_communicator.h"

#include <thread>

#include "core/base/openmp.h"
#include "parallel/staged_communicator.h"
#include "parallel/thread_hub.h"

namespace shoal {

namespace {

int node_of(int thread, int ranks_per_node) { return ranks_per_node == 0 ? 0 : thread / ranks_per_node; }

class ThreadCommunicator final : public ExchangeCommunicator {
 public:
  // `emulator`: null where links are as they are.
  ThreadCommunicator(std::shared_ptr<ThreadHub> hub, std::shared_ptr<const ThreadGroup> group, int rank,
                     int ranks_per_node, Allocator& scratch, int64_t max_message_bytes,
                     const std::shared_ptr<LinkEmulator>& emulator)
      : ExchangeCommunicator(&scratch, max_message_bytes),
        hub_(std::move(hub)),
        group_(std::move(group)),
        rank_(rank),
        ranks_per_node_(ranks_per_node) {
    if (emulator != nullptr) links_ = std::make_shared<GroupLinks>(emulator, id(), group_->threads, rank_);
  }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(group_->threads.size()); }
  int node(int rank) const override { return node_of(group_->threads[static_cast<size_t>(rank)], ranks_per_node_); }
  uint64_t id() const override { return static_cast<uint64_t>(group_->id) + 1; }
  std::shared_ptr<const GroupLinks> emulated_links() const override { return links_; }
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks) override {
    const int index = index_in_group(ranks);
    auto made = hub_->form_group(*group_, num_groups_made_++, rank_, ranks);
    return std::make_unique<ThreadCommunicator>(hub_, std::move(made), index, ranks_per_node_, *scratch(),
                                                max_message_bytes(), links_ ? links_->emulator() : nullptr);
  }

 protected:
  OperationPtr start(std::shared_ptr<Exchange> exchange) override {
    hub_->post(exchange, group_, rank_, links_);
    return exchange;
  }

 private:
  std::shared_ptr<ThreadHub> hub_;
  std::shared_ptr<const ThreadGroup> group_;
  int rank_;
  int ranks_per_node_;
  int64_t num_groups_made_ = 0;
  std::shared_ptr<const GroupLinks> links_;
};

}  // namespace

void run_thread_ranks(int num_ranks, const ThreadRanksOptions& options,
                      const std::function<void(Communicator& world, Allocator& allocator)>& body) {
  SHOAL_CHECK(options.ranks_per_node >= 0 && options.max_message_bytes > 0);
  const auto hub = std::make_shared<ThreadHub>(num_ranks);
  std::shared_ptr<LinkEmulator> emulator;
  if (options.emulate) {
    std::vector<int> nodes;
    for (int rank = 0; rank < num_ranks; ++rank) nodes.push_back(node_of(rank, options.ranks_per_node));
    emulator = std::make_shared<LinkEmulator>(*options.emulate, nodes);
  }
  std::vector<std::unique_ptr<Allocator>> allocators;
  for (int rank = 0; rank < num_ranks; ++rank) allocators.push_back(std::make_unique<Allocator>(options.device));
  const auto run = [&](int rank) {
    omp_set_num_threads(1);
    try {
      Allocator& allocator = *allocators[static_cast<size_t>(rank)];
      Allocator host(DeviceKind::kCpu);
      const bool staged = options.device == DeviceKind::kCuda;
      auto ranks = std::make_unique<ThreadCommunicator>(hub, hub->world(), rank, options.ranks_per_node,
                                                        staged ? host : allocator, options.max_message_bytes, emulator);
      ranks->set_name("world");
      if (!staged) {
        body(*ranks, allocator);
      } else {
        StagedCommunicator world(std::move(ranks), host);
        body(world, allocator);
      }
    } catch (const std::exception& error) {
      hub->fail(fmt::format("rank {} failed: {}", rank, error.what()), std::current_exception());
    } catch (...) {
      hub->fail(fmt::format("rank {} failed", rank), std::current_exception());
    }
    hub->leave(rank);
  };
  std::vector<std::jthread> threads;
  try {
    for (int rank = 0; rank < num_ranks; ++rank) threads.emplace_back(run, rank);
  } catch (const std::exception& error) {
    hub->fail(fmt::format("rank {} could not be started: {}", threads.size(), error.what()), std::current_exception());
  }
  for (std::jthread& thread : threads) thread.join();
  hub->finish();
  hub->rethrow();
}

}  // namespace shoal
