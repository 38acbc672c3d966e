// core/base/dtype.cpp: the error of a type that nobody expects.
#include "core/base/dtype.h"

#include "core/base/check.h"

namespace shoal {

void fail_not_floating(DType dtype) { fail("expected a floating tensor (f64, f32 or bf16), found {}", name_of(dtype)); }

}  // namespace shoal
