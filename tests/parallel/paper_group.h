// tests/parallel/paper_group.h: rank r of n, without the other ranks: for layouts, and for simulated tensors.
#pragma once

#include "parallel/exchange_communicator.h"

namespace shoal {

class PaperGroup final : public ExchangeCommunicator {
 public:
  PaperGroup(int rank, int size, Allocator* scratch = nullptr)
      : ExchangeCommunicator(scratch, kMaxMessageBytes), rank_(rank), size_(size) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::unique_ptr<Communicator> split(int /*color*/, int /*key*/) override {
    return std::make_unique<PaperGroup>(rank_, size_, scratch());
  }

 protected:
  LinkClass link(int peer) const override { return peer == rank_ ? LinkClass::kSelf : LinkClass::kInterNode; }
  void start(std::shared_ptr<Exchange> /*exchange*/) override { fail("a group on paper moves nothing"); }

 private:
  int rank_;
  int size_;
};

}  // namespace shoal
