// tests/emulated_cuda/include/emulated_launch.h: how a kernel is started without <<<>>>, and in which order it runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tests/emulated_cuda/include/emulated_runtime.h"
#include "tests/emulated_cuda/include/emulated_types.h"

namespace emulated {

// In which order blocks run, and the threads of a block between two barriers. A kernel without races gives the same
// result for each. The environment says it at the start: SHOAL_EMULATED_CUDA_ORDER=forward|reverse|random[:seed].
enum class Order { kForward, kReverse, kRandom };
void set_order(Order order, uint64_t seed = 0);

// One kernel with its arguments; `call` runs it for the CUDA thread whose turn it is.
struct Work {
  const void* kernel;
  void (*call)(void* arguments);
  void* arguments;
};

// Runs all blocks in the calling OS thread before it returns.
cudaError_t run_grid(const Work& work, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream);

// kernel<<<grid, block, shared_bytes, stream>>>(arguments...). Arguments are converted to the kernel's types once, and
// every thread gets its own copies.
template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   A&&... arguments) {
  static_assert(sizeof...(P) == sizeof...(A), "a launch gives each of the kernel's parameters");
  static_assert((std::is_convertible_v<A, P> && ...), "an argument does not convert to the kernel's parameter");
  static_assert(((!std::is_reference_v<P> && std::is_trivially_copyable_v<P>)&&...),
                "CUDA copies parameters as bytes: they are trivially copyable values");
  struct Call {
    void (*kernel)(P...);
    std::tuple<P...> parameters;
  } bound{kernel, std::tuple<P...>(static_cast<P>(std::forward<A>(arguments))...)};
  const auto call = [](void* untyped) {
    const Call& self = *static_cast<const Call*>(untyped);
    std::apply(self.kernel, self.parameters);
  };
  return run_grid({reinterpret_cast<const void*>(kernel), call, &bound}, grid, block, shared_bytes, stream);
}

}  // namespace emulated
