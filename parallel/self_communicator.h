// parallel/self_communicator.h: a group of one: every operation is a local copy, complete when it is posted. A GPU's
// tensors are copied in the order of their queue, so that nobody waits.
#pragma once

#include "parallel/exchange_communicator.h"

namespace shoal {

class SelfCommunicator final : public ExchangeCommunicator {
 public:
  SelfCommunicator() : ExchangeCommunicator(nullptr, kMaxMessageBytes) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }
  int node(int /*rank*/) const override { return 0; }
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks) override;

 protected:
  OperationPtr start(std::shared_ptr<Exchange> exchange) override;
};

}  // namespace shoal
