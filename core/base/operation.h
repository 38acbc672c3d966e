// core/base/operation.h: something posted to the wire (a collective).
#pragma once

#include <memory>

#include "core/base/wire.h"

namespace shoal {

// Shares ownership of its buffers until complete.
class Operation {
 public:
  virtual ~Operation() = default;
  // Puts it on the wire, if it is not there yet (post_queue.h). Before waiting.
  virtual void post() {}
  virtual bool done() = 0;
  // Blocks until complete; throws what went wrong on the wire.
  virtual void wait() = 0;
  // When it was under way, once complete or, where a queue carries it out, waited for; zeros where that is not known.
  virtual WireSpan span() const { return {}; }
};
using OperationPtr = std::shared_ptr<Operation>;

}  // namespace shoal
