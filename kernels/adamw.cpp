// kernels/adamw.cpp: AdamW's public door: checks, work, dispatch.
#include "kernels/adamw.h"

#include <cmath>

#include "kernels/adamw_cpu.h"
#include "kernels/adamw_cuda.h"
#include "kernels/launch.h"
#include "kernels/operands.h"

namespace shoal {

namespace {

AdamwFactors<double> factors_of(const AdamwStep& step) {
  const double count = static_cast<double>(step.step);
  return {.beta1 = step.beta1,
          .rest1 = 1 - step.beta1,
          .beta2 = step.beta2,
          .rest2 = 1 - step.beta2,
          .grad_scale = step.grad_scale,
          .keep = 1 - step.lr * step.weight_decay,
          .step_size = step.lr / (1 - std::pow(step.beta1, count)),
          .inv_sqrt_correction2 = 1 / std::sqrt(1 - std::pow(step.beta2, count)),
          .eps = step.eps};
}

}  // namespace

void adamw(Tensor master, Tensor m, Tensor v, Tensor weight, const Tensor& grad, const AdamwStep& step,
           Stream& stream) {
  check_on(stream, master, m, v, weight, grad);
  SHOAL_CHECK(master.dims() == 1, "master is {}, expected a flat shard [n]", master.shape());
  SHOAL_CHECK(master.dtype() == DType::kF32 || master.dtype() == DType::kF64, "master is {}, expected f32 or f64",
              name_of(master.dtype()));
  check_dtype(grad, master.dtype());
  for (const Tensor& tensor : {m, v, grad}) SHOAL_CHECK_EQ(tensor.shape(), master.shape());
  SHOAL_CHECK(m.dtype() == v.dtype(), "m is {}, v is {}", name_of(m.dtype()), name_of(v.dtype()));
  SHOAL_CHECK(m.dtype() == master.dtype() || (m.dtype() == DType::kBF16 && master.dtype() == DType::kF32),
              "moments are {}, master is {}", name_of(m.dtype()), name_of(master.dtype()));
  if (weight.defined()) {
    SHOAL_CHECK_EQ(weight.shape(), master.shape());
    SHOAL_CHECK(weight.dtype() == master.dtype() || (weight.dtype() == DType::kBF16 && master.dtype() == DType::kF32),
                "weight is {}, master is {}", name_of(weight.dtype()), name_of(master.dtype()));
  }
  check_dense(master, m, v, weight, grad);
  SHOAL_CHECK(step.step >= 1, "step {} is counted from 1", step.step);
  const Work work{.op = "adamw",
                  .kind = WorkKind::kOptimizer,
                  .executed_flops = 15.0 * static_cast<double>(master.numel()),
                  .bytes = operand_bytes(master, master, m, m, v, v, weight, grad),
                  .precision = master.dtype()};
  const AdamwFactors<double> factors = factors_of(step);
  launch(
      stream, work, [&] { adamw_cpu(master, m, v, weight, grad, factors); },
      [&](CudaQueue queue) {
        adamw_cuda(
            {.master = master.view(), .m = m.view(), .v = v.view(), .weight = weight.view(), .grad = grad.view()},
            factors, queue);
      });
}

}  // namespace shoal
