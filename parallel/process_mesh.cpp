// parallel/process_mesh.cpp: arithmetic, refusals, groups.
#include "parallel/process_mesh.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

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
  refuse("tensor", s.tensor, "tensor parallelism");
  refuse("expert", s.expert, "expert parallelism");
  refuse("expert_tensor", s.expert_tensor, "tensor parallelism inside experts");
}

}  // namespace

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
  const std::vector<NamedSize> inner{{"expert", s.expert}, {"expert_tensor", s.expert_tensor}};
  const std::vector<NamedSize> stage{{"data", s.data}, {"context", s.context}, {"tensor", s.tensor}};
  if (product(stage) % product(inner) != 0) {
    fail("{} does not divide {}, over which the experts are spread; set parallel.expert to a divisor",
         product_text(inner), product_text(stage));
  }
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

ProcessMesh::ProcessMesh(MeshSizes sizes, Communicator& world) : sizes_(resolve(sizes, world.size())), world_(world) {
  // Ranks that differ in one coordinate only form a group.
  const int rank = world.rank();
  const MeshPlace here = place(rank);
  const int data_stride = sizes_.context * sizes_.tensor;
  const int expert_data_stride = sizes_.expert * sizes_.expert_tensor;
  const auto group = [&](int coordinate, int size, int stride) {
    std::vector<int> ranks;
    for (int i = 0; i < size; ++i) ranks.push_back(rank + (i - coordinate) * stride);
    return world.group(ranks);
  };
  data_ = group(here.data, sizes_.data, data_stride);
  expert_data_ = group(here.expert_data, expert_data_size(), expert_data_stride);
}

std::string ProcessMesh::describe() const {
  struct Column {
    const char* title;
    int size;
    int MeshPlace::*coordinate;
  };
  const std::vector<Column> all{{"island", sizes_.island, &MeshPlace::island},
                                {"pipeline", sizes_.pipeline, &MeshPlace::pipeline},
                                {"data", sizes_.data, &MeshPlace::data},
                                {"context", sizes_.context, &MeshPlace::context},
                                {"tensor", sizes_.tensor, &MeshPlace::tensor},
                                {"expert_data", expert_data_size(), &MeshPlace::expert_data},
                                {"expert", sizes_.expert, &MeshPlace::expert},
                                {"expert_tensor", sizes_.expert_tensor, &MeshPlace::expert_tensor}};
  std::vector<Column> shown;
  std::ranges::copy_if(all, std::back_inserter(shown), [](const Column& column) {
    return column.size > 1 || column.coordinate == &MeshPlace::data || column.coordinate == &MeshPlace::expert_data;
  });
  std::string text = "rank";
  for (const Column& column : shown) text += fmt::format("  {}({})", column.title, column.size);
  constexpr int kMostRows = 16;
  for (int rank = 0; rank < std::min(world_.size(), kMostRows); ++rank) {
    text += fmt::format("\n{:>4}", rank);
    const MeshPlace here = place(rank);
    for (const Column& column : shown) {
      const size_t width = fmt::formatted_size("{}({})", column.title, column.size);
      text += fmt::format("  {:>{}}", here.*column.coordinate, width);
    }
  }
  if (world_.size() > kMostRows) text += fmt::format("\n … and {} more", world_.size() - kMostRows);
  return text + "\n";
}

}  // namespace shoal
