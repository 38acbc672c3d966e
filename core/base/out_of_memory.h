// core/base/out_of_memory.h: the error of a machine or GPU that has no more memory to give.
#pragma once

#include "core/base/check.h"

namespace shoal {

// Neither a mistake in a file nor a machine that broke: the same start on the same machine ends alike, a smaller
// microbatch or more ranks do not.
class OutOfMemory : public Error {
 public:
  using Error::Error;
};

// Of a std::bad_alloc, which says nothing.
constexpr const char* kRefusedByMachine =
    "out of memory: the machine has no more for this process; lower train.microbatch or the model's size, or start "
    "more ranks on more machines";

// What main returns then.
constexpr int kOutOfMemoryExit = 91;

}  // namespace shoal
