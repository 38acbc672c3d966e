// parallel/process_mesh.cpp: arithmetic, refusals, groups.
#include "parallel/process_mesh.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "core/config/checker.h"
#include "core/config/config.pb.h"

namespace shoal {

namespace {

using NamedSize = std::pair<const char*, int>;

// "data(2) * tensor(2) = 4", without the factors that are 1 unless it is the only one.
std::string product_text(const std::vector<NamedSize>& factors) {
  std::string text;
  int64_t product = 1;
  for (const auto& [name, size] : factors) {
    product *= size;
    if (size != 1) text += fmt::format("{}{}({})", text.empty() ? "" : " * ", name, size);
  }
  if (text.empty()) text = fmt::format("{}({})", factors.front().first, factors.front().second);
  return fmt::format("{} = {}", text, product);
}

int64_t product(const std::vector<NamedSize>& factors) {
  int64_t result = 1;
  for (const auto& factor : factors) result *= factor.second;
  return result;
}

std::string started(int num_ranks) {
  return num_ranks == 1 ? "1 rank was started (mpirun -np N starts more)"
                        : fmt::format("mpirun started {} ranks", num_ranks);
}

// Multiples of `step` around `value`: "4 or 8".
std::string nearest_multiples(int64_t step, int64_t value) {
  const int64_t below = value / step * step;
  if (below == value || below == 0) return std::to_string(std::max(below, step));
  return fmt::format("{} or {}", below, below + step);
}

void check_positive(const MeshSizes& s) {
  const auto check = [](const char* name, int size, int least) {
    if (size < least)
      fail("parallel.{} = {}: an axis has at least {}", name, size, least == 0 ? "0 (the ranks left over)" : "1");
  };
  check("island", s.island, 1);
  check("pipeline", s.pipeline, 1);
  check("data", s.data, 0);
  check("context", s.context, 1);
  check("tensor", s.tensor, 1);
  check("expert", s.expert, 1);
  check("expert_tensor", s.expert_tensor, 1);
}

void refuse_absent_axes(const MeshSizes& s) {
  const auto refuse = [](const char* name, int size, const char* what) {
    if (size != 1) fail("parallel.{} = {}: {} is not in this version; set it to 1", name, size, what);
  };
  refuse("island", s.island, "training on several islands");
  refuse("pipeline", s.pipeline, "pipeline parallelism");
  refuse("context", s.context, "context parallelism");
}

void check_experts_fit(const MeshSizes& s) {
  const std::vector<NamedSize> inner{{"expert", s.expert}, {"expert_tensor", s.expert_tensor}};
  const std::vector<NamedSize> stage{{"data", s.data}, {"context", s.context}, {"tensor", s.tensor}};
  const int64_t ranks = product(stage);
  if (ranks % product(inner) == 0) return;
  const std::string instead =
      ranks % s.expert_tensor == 0
          ? fmt::format("parallel.expert to {}", nearest_divisors(ranks / s.expert_tensor, s.expert))
          : fmt::format("parallel.expert_tensor to {}", nearest_divisors(ranks, s.expert_tensor));
  fail("{} does not divide {}, the ranks over which the experts are spread; set {}, or start {} ranks",
       product_text(inner), product_text(stage), instead, nearest_multiples(product(inner), ranks));
}

}  // namespace

MeshSizes mesh_sizes(const ParallelConfig& parallel) {
  return {.island = parallel.island(),
          .pipeline = parallel.pipeline(),
          .data = parallel.data(),
          .context = parallel.context(),
          .tensor = parallel.tensor(),
          .expert = parallel.expert(),
          .expert_tensor = parallel.expert_tensor()};
}

MeshSizes ProcessMesh::fit(MeshSizes s, int num_ranks) {
  SHOAL_CHECK(num_ranks >= 1, "{} ranks", num_ranks);
  check_positive(s);
  const std::vector<NamedSize> others{
      {"island", s.island}, {"pipeline", s.pipeline}, {"context", s.context}, {"tensor", s.tensor}};
  const int64_t step = product(others);
  if (s.data == 0) {
    if (num_ranks % step != 0) {
      fail("{} does not divide the ranks: {}; start {}", product_text(others), started(num_ranks),
           nearest_multiples(step, num_ranks));
    }
    s.data = static_cast<int>(num_ranks / step);
  }
  const std::vector<NamedSize> dense{
      {"data", s.data}, {"island", s.island}, {"pipeline", s.pipeline}, {"context", s.context}, {"tensor", s.tensor}};
  if (product(dense) != num_ranks) {
    const std::string instead =
        num_ranks % step == 0 ? fmt::format("set parallel.data to {} or start", num_ranks / step) : "start";
    fail("{}, but {}; {} {}", product_text(dense), started(num_ranks), instead, product(dense));
  }
  check_experts_fit(s);
  return s;
}

MeshSizes ProcessMesh::resolve(MeshSizes sizes, int num_ranks) {
  check_positive(sizes);
  refuse_absent_axes(sizes);
  return fit(sizes, num_ranks);
}

int ProcessMesh::expert_data_size() const {
  return sizes_.data * sizes_.context * sizes_.tensor / (sizes_.expert * sizes_.expert_tensor);
}

MeshPlace ProcessMesh::place(int rank) const {
  SHOAL_CHECK(rank >= 0 && rank < world_.size(), "rank {} of {}", rank, world_.size());
  const auto take = [](int& rest, int size) { return std::exchange(rest, rest / size) % size; };
  MeshPlace place;
  int dense = rank;
  place.tensor = take(dense, sizes_.tensor);
  place.context = take(dense, sizes_.context);
  place.data = take(dense, sizes_.data);
  place.pipeline = take(dense, sizes_.pipeline);
  place.island = dense;
  int expert = rank;
  place.expert_tensor = take(expert, sizes_.expert_tensor);
  place.expert = take(expert, sizes_.expert);
  place.expert_data = take(expert, expert_data_size());
  return place;
}

ProcessMesh::Axis ProcessMesh::data_axis() const { return {sizes_.context * sizes_.tensor, sizes_.data}; }
ProcessMesh::Axis ProcessMesh::tensor_axis() const { return {1, sizes_.tensor}; }
ProcessMesh::Axis ProcessMesh::expert_data_axis() const {
  return {sizes_.expert * sizes_.expert_tensor, expert_data_size()};
}
ProcessMesh::Axis ProcessMesh::expert_axis() const { return {sizes_.expert_tensor, sizes_.expert}; }
ProcessMesh::Axis ProcessMesh::expert_tensor_axis() const { return {1, sizes_.expert_tensor}; }
ProcessMesh::Axis ProcessMesh::expert_copy_axis() const { return {1, sizes_.expert * sizes_.expert_tensor}; }

// Ranks that differ from `rank` in this axis only.
std::vector<int> ProcessMesh::ranks_along(Axis axis, int rank) const {
  const int first = rank - rank / axis.stride % axis.size * axis.stride;
  std::vector<int> ranks;
  for (int i = 0; i < axis.size; ++i) ranks.push_back(first + i * axis.stride);
  return ranks;
}

ProcessMesh::ProcessMesh(MeshSizes sizes, Communicator& world) : sizes_(resolve(sizes, world.size())), world_(world) {
  check_nodes();
  const auto group = [&](const char* name, Axis axis) {
    auto made = world_.group(ranks_along(axis, world_.rank()));
    made->set_name(name);
    return made;
  };
  data_ = group("data", data_axis());
  tensor_ = group("tensor", tensor_axis());
  expert_data_ = group("expert_data", expert_data_axis());
  expert_ = group("expert", expert_axis());
  expert_tensor_ = group("expert_tensor", expert_tensor_axis());
  expert_copy_ = group("expert_copy", expert_copy_axis());
  split_expert_by_nodes();
}

namespace {

// Blocks of `size` ranks lie on one node, or are made of whole nodes.
void check_blocks(const char* axis, int size, const Communicator& world) {
  std::map<int, int> ranks_on;  // each node
  for (int rank = 0; rank < world.size(); ++rank) ++ranks_on[world.node(rank)];
  for (int first = 0; first + size <= world.size(); first += size) {
    std::map<int, int> in_block;
    for (int rank = first; rank < first + size; ++rank) ++in_block[world.node(rank)];
    const bool whole_nodes =
        std::ranges::all_of(in_block, [&](const auto& node) { return ranks_on[node.first] == node.second; });
    const bool even =
        std::ranges::all_of(in_block, [&](const auto& node) { return node.second == in_block.begin()->second; });
    if (in_block.size() == 1 || (whole_nodes && even)) continue;
    const int node_size = ranks_on[world.node(first)];
    fail(
        "{0}({1}): ranks {2} to {3} would straddle {4} nodes ({5} ranks on the first of them); they talk at every "
        "layer and stay inside a node: set parallel.{0} to {6}, or start {7} ranks a node",
        axis, size, first, first + size - 1, in_block.size(), node_size, nearest_divisors(node_size, size),
        nearest_multiples(size, node_size));
  }
}

}  // namespace

void ProcessMesh::check_nodes() const {
  check_blocks("tensor", sizes_.tensor, world_);
  check_blocks("expert_tensor", sizes_.expert_tensor, world_);
}

// Collective: every rank decides alike for its own group, and all make as many groups.
void ProcessMesh::split_expert_by_nodes() {
  if (sizes_.expert == 1) return;
  const auto by_node = [&](int rank) {
    std::map<int, std::vector<int>> nodes;
    for (const int member : ranks_along(expert_axis(), rank)) nodes[world_.node(member)].push_back(member);
    return nodes;
  };
  // Any group that cannot be cut leaves all uncut: group() is called by every rank of the world or by none.
  bool all_span = true;
  for (int rank = 0; rank < world_.size(); ++rank) {
    if (place(rank).expert != 0) continue;  // a group is told by its first rank
    const auto nodes = by_node(rank);
    const size_t each = nodes.begin()->second.size();
    const bool even = std::ranges::all_of(nodes, [&](const auto& node) { return node.second.size() == each; });
    expert_nodes_uneven_ = expert_nodes_uneven_ || !even;
    all_span = all_span && nodes.size() > 1 && each > 1;
  }
  if (expert_nodes_uneven_ || !all_span) return;
  std::vector<int> across;
  const auto nodes = by_node(world_.rank());
  const std::vector<int>& within = nodes.at(world_.node(world_.rank()));
  const auto here = std::ranges::find(within, world_.rank()) - within.begin();
  for (const auto& node : nodes) across.push_back(node.second[static_cast<size_t>(here)]);
  std::ranges::sort(across);
  expert_across_ = world_.group(across);
  expert_within_ = world_.group(within);
  expert_across_->set_name("expert_across");
  expert_within_->set_name("expert_within");
}

ReplicaGroups ProcessMesh::replicas() const {
  return {.every_rank = sizes_.tensor == 1 ? *data_ : world_, .tensor = *data_, .expert = *expert_data_};
}

WireBytes ProcessMesh::bytes() const {
  WireBytes total = world_.bytes();
  for (const auto* group :
       {&data_, &tensor_, &expert_data_, &expert_, &expert_tensor_, &expert_copy_, &expert_across_, &expert_within_}) {
    if (*group != nullptr) total += (*group)->bytes();
  }
  return total;
}

}  // namespace shoal
