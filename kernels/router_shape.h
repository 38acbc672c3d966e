// kernels/router_shape.h: how a router scores, groups and weighs its experts. Free of fmt, for .cu files.
#pragma once

#include <cstdint>

namespace shoal {

enum class RouterScore { kSigmoid, kSoftmax };
enum class GroupScore { kTop2Sum, kMax };

struct RouterShape {
  int64_t num_experts = 0;
  int64_t topk = 0;
  RouterScore score = RouterScore::kSigmoid;
  int64_t num_groups = 1;
  int64_t topk_groups = 1;
  GroupScore group_score = GroupScore::kTop2Sum;
  bool normalize = true;
  double route_scale = 1;
};

constexpr double kTinySum = 1e-20;  // keeps a sum of scores away from zero, as in the published router

}  // namespace shoal
