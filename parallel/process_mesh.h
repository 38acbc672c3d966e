// parallel/process_mesh.h: who is where: one set of ranks, two views of it.
//
// Dense layers see island × pipeline × data × context × tensor, expert layers island × pipeline × expert_data × expert
// × expert_tensor, over the same ranks; the last axis varies fastest. In this version every axis but data must be 1
// (and so expert_data = data); other sizes are refused with a sentence.
#pragma once

#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace shoal {

// Sizes asked for; data 0 means "the ranks left over".
struct MeshSizes {
  int island = 1, pipeline = 1, data = 0, context = 1, tensor = 1;
  int expert = 1, expert_tensor = 1;
};

// Coordinates of one rank in both views.
struct MeshPlace {
  int island = 0, pipeline = 0, data = 0, context = 0, tensor = 0;
  int expert_data = 0, expert = 0, expert_tensor = 0;
};

class ProcessMesh {
 public:
  // Collective. Throws as resolve() does.
  ProcessMesh(MeshSizes sizes, Communicator& world);

  // Sizes with data filled in, without a communicator: what `shoal config` and `--dry-run` use. Throws when an axis is
  // not in this version ("parallel.tensor = 2: tensor parallelism is not in this version; set it to 1") and as fit()
  // does.
  static MeshSizes resolve(MeshSizes sizes, int num_ranks);
  // The arithmetic alone. Throws with the nearest sizes that fit:
  //   "data(2) * tensor(2) = 4, but mpirun started 6 ranks; set parallel.data to 3 or start 4"
  static MeshSizes fit(MeshSizes sizes, int num_ranks);

  const MeshSizes& sizes() const { return sizes_; }
  int expert_data_size() const;
  MeshPlace place(int rank) const;

  Communicator& world() const { return world_; }
  Communicator& data() const { return *data_; }                // ranks that hold the same dense parameters
  Communicator& expert_data() const { return *expert_data_; }  // ranks that hold the same experts

  // A table: rank, coordinates in both views; axes of size 1 are left out, and ranks behind the first 16.
  std::string describe() const;

 private:
  MeshSizes sizes_;
  Communicator& world_;
  std::unique_ptr<Communicator> data_;
  std::unique_ptr<Communicator> expert_data_;
};

}  // namespace shoal
