// tests/train/bench_comm_test.cpp: what `shoal bench comm` measures is right, and it sees what is not.
#include "core/train/bench_comm.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <map>

#include "core/train/bench_dispatch.h"
#include "parallel/self_communicator.h"
#include "parallel/thread_communicator.h"
#include "tests/rank_check.h"

namespace shoal {
namespace {

constexpr BenchCommOptions kTiny{.min_bytes = 16, .max_bytes = 1024, .factor = 8, .seconds = 0};
constexpr DispatchShape kTinyShape{.hidden = 3, .num_experts = 8, .topk = 3, .tokens = 17, .seed = 5};

// Adds 1 to the first element of an f32 result, once it is there.
class SpoiledOperation final : public Operation {
 public:
  SpoiledOperation(OperationPtr inner, Tensor out) : inner_(std::move(inner)), out_(std::move(out)) {}
  bool done() override { return inner_->done(); }
  void wait() override {
    inner_->wait();
    if (out_.defined() && out_.dtype() == DType::kF32 && out_.numel() > 0) out_.data<float>()[0] += 1;
    out_ = {};
  }

 private:
  OperationPtr inner_;
  Tensor out_;
};

// Another communicator, and its groups, with one wrong element in every f32 result of rank 1.
class SpoiledCommunicator final : public Communicator {
 public:
  explicit SpoiledCommunicator(Communicator& inner) : inner_(inner) {}
  explicit SpoiledCommunicator(std::unique_ptr<Communicator> inner) : owned_(std::move(inner)), inner_(*owned_) {}

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  int node(int rank) const override { return inner_.node(rank); }
  OperationPtr all_to_all_rows(Tensor out, std::vector<int64_t> out_rows, Tensor in,
                               std::vector<int64_t> in_rows) override {
    return spoil(inner_.all_to_all_rows(out, std::move(out_rows), std::move(in), std::move(in_rows)), out);
  }
  OperationPtr all_gather(Tensor out, Tensor piece) override {
    return spoil(inner_.all_gather(out, std::move(piece)), out);
  }
  OperationPtr all_gather_rows(Tensor out, std::vector<int64_t> rows, Tensor piece) override {
    return spoil(inner_.all_gather_rows(out, std::move(rows), std::move(piece)), out);
  }
  OperationPtr reduce_scatter(Tensor out, Tensor in, Tensor onto) override {
    return spoil(inner_.reduce_scatter(out, std::move(in), std::move(onto)), out);
  }
  OperationPtr reduce_scatter_rows(Tensor out, Tensor in, std::vector<int64_t> rows) override {
    return spoil(inner_.reduce_scatter_rows(out, std::move(in), std::move(rows)), out);
  }
  OperationPtr all_reduce(Tensor x) override { return spoil(inner_.all_reduce(x), x); }
  OperationPtr broadcast(Tensor x, int root) override { return spoil(inner_.broadcast(x, root), x); }
  OperationPtr barrier() override { return inner_.barrier(); }
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks) override {
    return std::make_unique<SpoiledCommunicator>(inner_.group(ranks));
  }
  WireBytes bytes() const override { return inner_.bytes(); }

 private:
  OperationPtr spoil(OperationPtr operation, const Tensor& out) const {
    if (rank() != 1) return operation;
    return std::make_shared<SpoiledOperation>(std::move(operation), out);
  }

  std::unique_ptr<Communicator> owned_;
  Communicator& inner_;
};

}  // namespace

TEST_CASE("bus factors are those of nccl-tests") {
  CHECK(bus_factor("all_reduce", 4) == Approx(1.5));
  for (const char* verb :
       {"all_to_all_rows", "all_gather", "all_gather_rows", "reduce_scatter", "reduce_scatter_rows"}) {
    CHECK(bus_factor(verb, 4) == Approx(0.75));
  }
  CHECK(bus_factor("broadcast", 4) == 1);
  CHECK(bus_factor("all_reduce", 1) == 0);
}

TEST_CASE("every verb and size is timed, and nothing is wrong", "[threads]") {
  run_thread_ranks(4, {.ranks_per_node = 2}, [](Communicator& world, Allocator& allocator) {
    int reported = 0;
    const std::vector<VerbTime> results = bench_verbs(world, allocator, kTiny, [&](const VerbTime&) { ++reported; });
    RANK_CHECK(reported == static_cast<int>(results.size()));
    std::map<std::string, std::vector<int64_t>> sizes;
    for (const VerbTime& result : results) {
      RANK_CHECK(result.wrong == 0);
      RANK_CHECK(result.num_ranks == 4);
      RANK_CHECK(result.time.best_us > 0 && result.time.median_us >= result.time.best_us);
      const double gb_per_s = static_cast<double>(result.bytes) / (result.time.median_us * 1e-6) * 1e-9;
      RANK_CHECK(result.algorithm_gb_per_s == Approx(gb_per_s));
      RANK_CHECK(result.bus_gb_per_s == Approx(gb_per_s * bus_factor(result.verb, 4)));
      const auto json = nlohmann::json::parse(to_json(result));
      RANK_CHECK(json["what"] == result.verb && json["bytes"] == result.bytes && json["wrong"] == 0);
      sizes[result.verb].push_back(result.bytes);
    }
    RANK_CHECK(sizes.size() == 8);
    for (const auto& [verb, bytes] : sizes) {
      RANK_CHECK(bytes == (verb == "barrier" ? std::vector<int64_t>{0} : std::vector<int64_t>{16, 128, 1024}));
    }
  });
}

TEST_CASE("sizes that ranks do not divide are rounded, and one rank has nothing to measure", "[threads]") {
  run_thread_ranks(3, {}, [](Communicator& world, Allocator& allocator) {
    for (const VerbTime& result :
         bench_verbs(world, allocator, {.min_bytes = 1, .max_bytes = 64, .factor = 4, .seconds = 0})) {
      RANK_CHECK(result.wrong == 0);
    }
  });
  SelfCommunicator alone;
  Allocator allocator(DeviceKind::kCpu);
  for (const VerbTime& result : bench_verbs(alone, allocator, kTiny)) CHECK(result.wrong == 0);
  CHECK_THAT(verb_heading(alone), Catch::Matchers::Contains("nothing to measure but copies"));
}

TEST_CASE("tokens reach their experts and come back, on every layout and way", "[threads]") {
  for (const MeshSizes& sizes : {MeshSizes{.expert = 4}, {.expert = 2}, {.expert = 2, .expert_tensor = 2}, {}}) {
    for (const int num_groups : {1, 4}) {
      DispatchShape shape = kTinyShape;
      shape.num_groups = num_groups;
      shape.topk_groups = (num_groups + 1) / 2;
      shape.dtype = num_groups == 1 ? DType::kF32 : DType::kBF16;
      run_thread_ranks(4, {.ranks_per_node = 2}, [&](Communicator& world, Allocator& allocator) {
        const ProcessMesh mesh(sizes, world);
        const std::vector<DispatchTime> results = bench_dispatch(shape, mesh, allocator, 0);
        RANK_CHECK(results.size() == (sizes.expert == 4 ? 6 : 3));
        for (const DispatchTime& result : results) {
          RANK_CHECK(result.wrong == 0);
          RANK_CHECK(result.time.best_us > 0);
          RANK_CHECK((result.within_bytes + result.between_bytes > 0) == (mesh.expert_copy().size() > 1));
          const auto json = nlohmann::json::parse(to_json(result));
          RANK_CHECK(json["what"] == result.what && json["way"] == result.way && json["wrong"] == 0);
        }
        if (sizes.expert != 4) return;
        RANK_CHECK(results[0].way == "direct" && results[3].way == "hierarchical");
        RANK_CHECK(results[4].between_bytes < results[1].between_bytes);
        RANK_CHECK(results[4].between_bytes == results[5].between_bytes);
      });
    }
  }
}

TEST_CASE("a wrong element is counted", "[threads]") {
  run_thread_ranks(4, {.ranks_per_node = 2}, [](Communicator& world, Allocator& allocator) {
    SpoiledCommunicator spoiled(world);
    for (const VerbTime& result : bench_verbs(spoiled, allocator, kTiny)) {
      RANK_CHECK(result.wrong == (result.verb == "barrier" ? 0 : 1));
    }
    const ProcessMesh mesh({.expert = 4}, spoiled);
    for (const DispatchTime& result : bench_dispatch(kTinyShape, mesh, allocator, 0)) {
      RANK_CHECK((result.wrong > 0) == (result.what != "plan"));
    }
  });
}

TEST_CASE("a config's microbatch is what a rank dispatches") {
  Config config;
  config.mutable_model()->set_hidden(48);
  config.mutable_model()->mutable_moe()->set_num_experts(6);
  config.mutable_model()->mutable_moe()->set_topk(2);
  config.mutable_data()->set_seq_len(10);
  config.mutable_train()->set_microbatch(4);
  config.mutable_train()->set_global_batch(6);
  run_thread_ranks(2, {}, [&](Communicator& world, Allocator&) {
    const DispatchShape shape = dispatch_shape(config, ProcessMesh({.expert = 2}, world), DType::kBF16);
    RANK_CHECK(shape.hidden == 48 && shape.num_experts == 6 && shape.topk == 2 && shape.dtype == DType::kBF16);
    RANK_CHECK(shape.tokens == 3 * 10);  // two ranks share six sequences
    RANK_CHECK(dispatch_shape(config, ProcessMesh({.tensor = 2, .expert = 2}, world), DType::kF32).tokens ==
               4 * 10 / 2);
  });
  run_thread_ranks(4, {}, [&](Communicator& world, Allocator&) {
    const ProcessMesh mesh({.expert = 4}, world);
    const std::string error = error_of([&] { dispatch_shape(config, mesh, DType::kF32); });
    RANK_CHECK(error.find("num_experts (6) is no multiple of parallel.expert (4)") != std::string::npos);
  });
}

}  // namespace shoal
