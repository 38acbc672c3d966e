// kernels/adamw_factors.h: the numbers of one AdamW step, computed once for all elements. Free of fmt, for .cu files.
#pragma once

namespace shoal {

// A: double as computed, then the type of the arithmetic.
template <class A>
struct AdamwFactors {
  A beta1 = 0, rest1 = 0;  // rest: 1 - beta
  A beta2 = 0, rest2 = 0;
  A grad_scale = 0;
  A keep = 0;                  // 1 - lr * weight_decay
  A step_size = 0;             // lr / (1 - beta1^step)
  A inv_sqrt_correction2 = 0;  // 1 / sqrt(1 - beta2^step)
  A eps = 0;

  template <class B>
  AdamwFactors<B> rounded() const {
    return {.beta1 = static_cast<B>(beta1),
            .rest1 = static_cast<B>(rest1),
            .beta2 = static_cast<B>(beta2),
            .rest2 = static_cast<B>(rest2),
            .grad_scale = static_cast<B>(grad_scale),
            .keep = static_cast<B>(keep),
            .step_size = static_cast<B>(step_size),
            .inv_sqrt_correction2 = static_cast<B>(inv_sqrt_correction2),
            .eps = static_cast<B>(eps)};
  }
};

}  // namespace shoal
