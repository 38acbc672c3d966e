// parallel/process_mesh_text.cpp: the mesh as a table.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "parallel/process_mesh.h"

namespace shoal {

namespace {

constexpr int kMostRows = 16;

}  // namespace

std::string ProcessMesh::describe_groups() const {
  const std::pair<const char*, Axis> axes[] = {{"data", data_axis()},
                                               {"tensor", tensor_axis()},
                                               {"expert_data", expert_data_axis()},
                                               {"expert", expert_axis()},
                                               {"expert_tensor", expert_tensor_axis()}};
  std::string text;
  for (const auto& [title, axis] : axes) {
    if (axis.size == 1) continue;
    std::string line;
    for (int rank = 0; rank < std::min(world_.size(), kMostRows); ++rank) {
      const std::vector<int> ranks = ranks_along(axis, rank);
      if (ranks.front() != rank) continue;  // told with its first rank
      const size_t shown = std::min(ranks.size(), size_t{kMostRows});
      line += fmt::format(" {{{}{}}}", fmt::join(ranks.begin(), ranks.begin() + static_cast<ptrdiff_t>(shown), " "),
                          shown < ranks.size() ? " …" : "");
    }
    text += fmt::format("{:<13}{}{}\n", title, line, world_.size() > kMostRows ? " …" : "");
  }
  return text;
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
  std::map<int, int> node_index;  // in order of the nodes' first ranks
  for (int rank = 0; rank < world_.size(); ++rank) {
    node_index.emplace(world_.node(rank), static_cast<int>(node_index.size()));
  }
  std::string text = "rank  node";
  for (const Column& column : shown) text += fmt::format("  {}({})", column.title, column.size);
  for (int rank = 0; rank < std::min(world_.size(), kMostRows); ++rank) {
    text += fmt::format("\n{:>4}  {:>4}", rank, node_index.at(world_.node(rank)));
    const MeshPlace here = place(rank);
    for (const Column& column : shown) {
      const size_t width = fmt::formatted_size("{}({})", column.title, column.size);
      text += fmt::format("  {:>{}}", here.*column.coordinate, width);
    }
  }
  if (world_.size() > kMostRows) text += fmt::format("\n … and {} more", world_.size() - kMostRows);
  return text + "\n" + describe_groups();
}

}  // namespace shoal
