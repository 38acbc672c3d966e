// parallel/process_mesh.h: who is where: one set of ranks, two views of it.
//
// Dense layers see island × pipeline × data × context × tensor, expert layers island × pipeline × expert_data × expert
// × expert_tensor, over the same ranks; the last axis varies fastest. So expert = 8 needs no ranks of its own when
// data × tensor = 8. In this version island, pipeline and context must be 1.
//
// The world's ranks are in order of their nodes (MpiSession::world), so the fastest axes, which talk most, stay inside
// a node. A tensor or expert_tensor group that would straddle nodes is refused, unless it is made of whole nodes of
// equal size.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/replica_groups.h"

namespace shoal {

class ParallelConfig;

// Sizes asked for; data 0 means "the ranks left over".
struct MeshSizes {
  int island = 1, pipeline = 1, data = 0, context = 1, tensor = 1;
  int expert = 1, expert_tensor = 1;
};
// As parallel.* asks for them.
MeshSizes mesh_sizes(const ParallelConfig& parallel);

// Coordinates of one rank in both views.
struct MeshPlace {
  int island = 0, pipeline = 0, data = 0, context = 0, tensor = 0;
  int expert_data = 0, expert = 0, expert_tensor = 0;
};

class ProcessMesh {
 public:
  // Collective. Throws as resolve() does.
  ProcessMesh(MeshSizes sizes, Communicator& world);

  // Sizes with data filled in. Throws when an axis is not in this version ("parallel.pipeline = 2: pipeline
  // parallelism is not in this version; set it to 1") and as fit() does.
  static MeshSizes resolve(MeshSizes sizes, int num_ranks);
  // The arithmetic alone. Throws with the nearest sizes that fit:
  //   "data(2) * tensor(2) = 4, but mpirun started 6 ranks; set parallel.data to 3 or start 4"
  static MeshSizes fit(MeshSizes sizes, int num_ranks);

  const MeshSizes& sizes() const { return sizes_; }
  int expert_data_size() const;
  MeshPlace place(int rank) const;

  // This rank's groups.
  Communicator& world() const { return world_; }
  Communicator& data() const { return *data_; }                    // the same part of dense matrices, other sequences
  Communicator& tensor() const { return *tensor_; }                // the same sequences, other parts
  Communicator& expert_data() const { return *expert_data_; }      // the same experts
  Communicator& expert() const { return *expert_; }                // other experts, the same part of each
  Communicator& expert_tensor() const { return *expert_tensor_; }  // the same experts, other parts
  Communicator& expert_copy() const { return *expert_copy_; }      // one copy of all experts: expert × expert_tensor

  // expert() by nodes: one rank a node, and this node's ranks. Null unless every expert group spans several nodes and
  // has the same number of ranks, at least 2, on each.
  Communicator* expert_across() const { return expert_across_.get(); }
  Communicator* expert_within() const { return expert_within_.get(); }
  // An expert group has different numbers of ranks on its nodes.
  bool expert_nodes_uneven() const { return expert_nodes_uneven_; }

  // Who shares a parameter's values, by its kind.
  ReplicaGroups replicas() const;
  // Sent by this rank in all of its groups, the world too.
  WireBytes bytes() const;

  // A table: rank, node, coordinates in both views, then the groups. Axes of size 1 are left out, and what is behind
  // the first 16 ranks.
  std::string describe() const;

 private:
  // How far apart the ranks of an axis are, and how many they are.
  struct Axis {
    int stride = 1;
    int size = 1;
  };
  Axis data_axis() const;
  Axis tensor_axis() const;
  Axis expert_data_axis() const;
  Axis expert_axis() const;
  Axis expert_tensor_axis() const;
  Axis expert_copy_axis() const;
  std::vector<int> ranks_along(Axis axis, int rank) const;
  std::string describe_groups() const;
  void check_nodes() const;
  void split_expert_by_nodes();

  MeshSizes sizes_;
  Communicator& world_;
  std::unique_ptr<Communicator> data_, tensor_;
  std::unique_ptr<Communicator> expert_data_, expert_, expert_tensor_, expert_copy_;
  std::unique_ptr<Communicator> expert_across_, expert_within_;
  bool expert_nodes_uneven_ = false;
};

}  // namespace shoal
