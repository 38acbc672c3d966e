// core/train/dispatch_traffic.h: random tokens for a MoE block, and what must become of them.
//
// Every rank can tell what every other chose, and so what must arrive where.
#pragma once

#include <utility>
#include <vector>

#include "core/config/config.pb.h"
#include "parallel/process_mesh.h"
#include "parallel/sharding.h"

namespace shoal {

// Random tokens on every rank, choosing topk experts of topk_groups of num_groups equal groups, all of them alike.
struct DispatchShape {
  int64_t hidden = 0;
  int64_t num_experts = 0;  // a multiple of the mesh's expert axis
  int64_t topk = 0;
  int64_t num_groups = 1;
  int64_t topk_groups = 1;
  int64_t tokens = 0;  // of one rank
  DType dtype = DType::kF32;
  uint64_t seed = 0;
};

// A microbatch of the config, which has model.moe: its tokens on one rank of the mesh. Throws when the expert axis does
// not divide the experts.
DispatchShape dispatch_shape(const Config& config, const ProcessMesh& mesh, DType dtype);

// The experts [tokens * topk] of one rank's tokens, ascending within a token.
std::vector<int32_t> token_choices(const DispatchShape& shape, int rank);
// Element i of one rank's tokens [tokens, hidden]: an integer so small that topk times it is exact in bf16.
float token_element(const DispatchShape& shape, int rank, int64_t i);

// Where the rows of this rank's experts come from, in the order that dispatch promises.
struct Arrivals {
  std::vector<int64_t> rows_of_expert;           // [local experts]
  std::vector<std::pair<int, int64_t>> sources;  // rank, token: of each row
};
Arrivals expected_arrivals(const DispatchShape& shape, const ProcessMesh& mesh, IndexRange experts);

// Elements of `sorted` [rows, hidden] that are not what must arrive.
int64_t wrong_after_dispatch(const DispatchShape& shape, const Tensor& sorted, const Arrivals& arrivals);
// Elements of `back` [tokens, hidden] that are not topk times what this rank sent.
int64_t wrong_after_combine(const DispatchShape& shape, int rank, const Tensor& back);

}  // namespace shoal
