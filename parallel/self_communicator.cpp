// parallel/self_communicator.cpp: rounds without messages.
#include "parallel/self_communicator.h"

namespace shoal {

std::unique_ptr<Communicator> SelfCommunicator::split(int color, int /*key*/) {
  SHOAL_CHECK(color >= 0, "color {}", color);
  return std::make_unique<SelfCommunicator>();
}

LinkClass SelfCommunicator::link(int /*peer*/) const { return LinkClass::kSelf; }

void SelfCommunicator::start(std::shared_ptr<Exchange> exchange) {
  do {
    exchange->posted();
  } while (exchange->arrived());
}

}  // namespace shoal
