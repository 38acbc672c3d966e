// parallel/peer_failed.h: what a wait throws when the rank it waits for will never come.
#pragma once

#include "core/base/check.h"

namespace shoal {

// Another rank failed, or the way to it: the job is over, and nobody here made a mistake.
class PeerFailed : public Error {
 public:
  using Error::Error;
};

}  // namespace shoal
