// parallel/parameter_init.cpp: Box-Muller over counter-based words, two normals a counter.
#include "parallel/parameter_init.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/random.h"

namespace shoal {

namespace {

// Normals 2 * pair and 2 * pair + 1 of the stream: radius from 53 bits, angle from 32. Each is changed by up to
// `perturbation` of itself; without one, the last 32 bits are not used.
std::array<double, 2> normal_pair(const CounterRandom& random, int64_t pair, double perturbation) {
  const auto w = random.words(static_cast<uint64_t>(pair));
  const double uniform = (static_cast<double>(uint64_t{w[0]} << 21 | w[1] >> 11) + 1.0) * 0x1p-53;  // (0, 1]
  const double radius = std::sqrt(-2.0 * std::log(uniform));
  const double angle = 6.283185307179586 * (static_cast<double>(w[2]) * 0x1p-32);
  const auto changed = [&](uint32_t bits) { return 1 + perturbation * (static_cast<double>(bits) * 0x1p-15 - 1); };
  return {radius * std::cos(angle) * changed(w[3] & 0xFFFFu), radius * std::sin(angle) * changed(w[3] >> 16)};
}

template <class T>
void draw_normals(T* out, int64_t first, int64_t count, const ParameterSpec& spec, const CounterRandom& random) {
  const double deviation = spec.init_std, perturbation = spec.init_perturbation;
  const int64_t last_pair = (first + count - 1) / 2;
#pragma omp parallel for schedule(static)
  for (int64_t pair = first / 2; pair <= last_pair; ++pair) {
    const auto normals = normal_pair(random, pair, perturbation);
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t i = 2 * pair + half - first;
      if (i >= 0 && i < count) {
        out[i] = static_cast<T>(static_cast<float>(normals[static_cast<size_t>(half)] * deviation));
      }
    }
  }
}

}  // namespace

void draw_initial_values(Tensor out, const ParameterSpec& spec, int64_t begin, uint64_t seed) {
  const int64_t count = out.numel();
  SHOAL_CHECK(begin >= 0 && begin + count <= spec.shape.numel(), "elements [{}, {}) of {} {}", begin, begin + count,
              spec.name, spec.shape);
  SHOAL_CHECK(out.contiguous(), "a dense tensor is needed");
  if (out.device() == DeviceKind::kSimulated || count == 0) return;
  const CounterRandom random(seed, stream_of("init/" + spec.name));
  dispatch_floating(out.dtype(), [&]<class T>(T) {
    // The numbers are the CPU's on every device.
    std::vector<T> drawn(out.device() == DeviceKind::kCuda ? static_cast<size_t>(count) : 0);
    T* const values = drawn.empty() ? out.data<T>() : drawn.data();
    if (spec.init_std == 0) {
      std::fill_n(values, count, static_cast<T>(1.0f));
    } else if (spec.sharding.dims.empty()) {
      draw_normals(values, begin, count, spec, random);
    } else {
      spec.sharding.for_each_run(begin, count, [&](int64_t local, int64_t global, int64_t run) {
        draw_normals(values + (local - begin), global, run, spec, random);
      });
    }
    if (!drawn.empty()) out.copy_from(drawn);
  });
}

}  // namespace shoal
