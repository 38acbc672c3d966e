// core/config/known_gpus.cpp: data sheets.
#include "core/config/known_gpus.h"

namespace shoal {
namespace {

// Dense peaks in TFLOP/s (f32: not TF32, which rounds to 10 bits), memory in GiB as it can be allocated, bandwidth in
// TB/s.
struct Sheet {
  const char* name;
  double bf16, fp8, f32, memory_gib, memory_tbyte_per_s;
};
// FP8 of the RTX 4090 is what it does with sums in FP32; the A100 has none.
constexpr Sheet kSheets[] = {
    {"H100 SXM", 989.5, 1979, 66.9, 79.6, 3.35},   {"H200 SXM", 989.5, 1979, 66.9, 140.4, 4.8},
    {"H800 SXM", 989.5, 1979, 66.9, 79.6, 3.35},   {"A100 SXM 80GB", 312, 0, 19.5, 79.3, 2.0},
    {"RTX 4090", 165.2, 330.3, 82.6, 23.6, 1.008},
};

}  // namespace

std::vector<std::string> known_gpu_names() {
  std::vector<std::string> names;
  for (const Sheet& sheet : kSheets) names.emplace_back(sheet.name);
  return names;
}

void complete_gpu(GpuConfig& gpu) {
  for (const Sheet& sheet : kSheets) {
    if (gpu.name() != sheet.name) continue;
    if (!gpu.has_bf16_tflops()) gpu.set_bf16_tflops(sheet.bf16);
    if (!gpu.has_fp8_tflops()) gpu.set_fp8_tflops(sheet.fp8);
    if (!gpu.has_f32_tflops()) gpu.set_f32_tflops(sheet.f32);
    if (!gpu.has_memory_gib()) gpu.set_memory_gib(sheet.memory_gib);
    if (!gpu.has_memory_tbyte_per_s()) gpu.set_memory_tbyte_per_s(sheet.memory_tbyte_per_s);
  }
}

}  // namespace shoal
