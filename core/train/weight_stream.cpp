// core/train/weight_stream.cpp: tensor after tensor, and of each some rows after others.
#include "core/train/weight_stream.h"

#include <algorithm>
#include <map>
#include <string>

#include "core/checkpoint/safetensors_header.h"
#include "parallel/gather_shards.h"

namespace shoal {

namespace {

// Where a tensor of the file comes from: one of the two.
struct Origin {
  const Parameter* parameter = nullptr;
  const Router* router = nullptr;
};

std::map<std::string, Origin> origins_of(ModelRuntime& runtime) {
  std::map<std::string, Origin> origins;
  for (const Parameter& parameter : runtime.store().parameters()) {
    origins[parameter.spec().name] = {.parameter = &parameter, .router = nullptr};
  }
  for (const Router* router : runtime.model().routers()) {
    if (router->has_bias()) origins[bias_name(*router)] = {.parameter = nullptr, .router = router};
  }
  return origins;
}

// What a rank holds of rows [begin, begin + count) of a global tensor: which rows of its own, and where they lie in a
// tensor of these rows alone.
struct HeldRows {
  IndexRange local;
  Sharding sharding;
};

HeldRows held_rows(const Sharding& sharding, int64_t begin, int64_t count) {
  HeldRows rows{.local = {}, .sharding = sharding};
  ShardDim& part = rows.sharding.dims.front();
  part.global = count;
  part.held.clear();
  int64_t passed = 0, last_end = 0;  // ranges follow each other, so that the rows held are neighbours here too
  for (const IndexRange& range : sharding.dims.front().held) {
    SHOAL_CHECK(range.begin >= last_end, "ranges of a dim out of order");
    last_end = range.begin + range.count;
    const int64_t from = std::max(range.begin, begin), to = std::min(last_end, begin + count);
    if (from < to) {
      if (part.held.empty()) rows.local.begin = passed + from - range.begin;
      part.held.push_back({from - begin, to - from});
      rows.local.count += to - from;
    }
    passed += range.count;
  }
  return rows;
}

class WeightStream {
 public:
  WeightStream(ModelRuntime& runtime, const TakeBytes& take, int64_t piece_bytes)
      : runtime_(runtime), mesh_(runtime.mesh()), take_(take), piece_bytes_(piece_bytes) {}

  void send(const Parameter& parameter) {
    const ParameterSpec& spec = parameter.spec();
    if (spec.sharding.whole()) return send_whole(parameter.weight());
    // Only the groups that rank 0 belongs to put anything together.
    const bool expert = spec.group == ParameterGroup::kExpert;
    const MeshPlace here = mesh_.place(mesh_.world().rank());
    if (expert ? here.expert_data > 0 : here.data > 0) return;
    Communicator& group = expert ? mesh_.expert_copy() : mesh_.tensor();
    const Shape shape = spec.global_shape();
    for_pieces(shape, parameter.weight().dtype(), [&](int64_t begin, int64_t count) {
      const HeldRows held = held_rows(spec.sharding, begin, count);
      const Tensor mine = runtime_.on_host(parameter.weight().rows(held.local.begin, held.local.count));
      const Tensor piece = gather_shards(mine, held.sharding, group, runtime_.host());
      if (speaks()) give(piece);
    });
  }
  // Of what every rank has.
  void send_whole(const Tensor& tensor) {
    if (!speaks()) return;
    for_pieces(tensor.shape(), tensor.dtype(),
               [&](int64_t begin, int64_t count) { give(runtime_.on_host(tensor.rows(begin, count))); });
  }

 private:
  bool speaks() const { return mesh_.world().rank() == 0; }
  void give(const Tensor& piece) { take_({piece.raw(), static_cast<size_t>(piece.bytes())}); }

  template <class Visit>
  void for_pieces(const Shape& shape, DType dtype, Visit visit) {
    const int64_t rows = shape[0];
    const int64_t row_bytes = std::max<int64_t>(1, shape.row_numel() * size_of(dtype));
    const int64_t at_once = std::max<int64_t>(1, piece_bytes_ / row_bytes);
    for (int64_t begin = 0; begin < rows; begin += at_once) visit(begin, std::min(at_once, rows - begin));
  }

  ModelRuntime& runtime_;
  const ProcessMesh& mesh_;
  const TakeBytes& take_;
  int64_t piece_bytes_;
};

}  // namespace

std::vector<NamedTensor> describe_weights(ModelRuntime& runtime) {
  std::vector<NamedTensor> tensors;
  for (const auto& [name, origin] : origins_of(runtime)) {
    if (origin.router != nullptr) {
      tensors.push_back({name, origin.router->bias().shape(), origin.router->bias().dtype()});
    } else {
      tensors.push_back({name, origin.parameter->spec().global_shape(), origin.parameter->weight().dtype()});
    }
  }
  sort_as_in_file(tensors);
  return tensors;
}

void stream_weights(ModelRuntime& runtime, const TakeBytes& take, int64_t piece_bytes) {
  runtime.buckets().wait_for_weights();
  runtime.stream().wait();
  WeightStream stream(runtime, take, piece_bytes);
  const std::map<std::string, Origin> origins = origins_of(runtime);
  for (const NamedTensor& tensor : describe_weights(runtime)) {
    const Origin& origin = origins.at(tensor.name);
    if (origin.router != nullptr) {
      stream.send_whole(origin.router->bias());
    } else {
      stream.send(*origin.parameter);
    }
  }
}

}  // namespace shoal
