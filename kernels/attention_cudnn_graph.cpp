// kernels/attention_cudnn_graph.cpp: attention as cuDNN's graphs, through cudnn-frontend.
#if SHOAL_HAS_CUDNN
#include "kernels/attention_cudnn_graph.h"

#include <dlfcn.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

// The library is opened by hand, so that a program without it starts.
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include "core/base/check.h"
#include "core/base/cuda_check.h"
#include "kernels/cuda_libraries.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;
}

namespace shoal {

namespace fe = cudnn_frontend;
using FeTensor = std::shared_ptr<fe::graph::Tensor_attributes>;

class CudnnAttentionGraph {
 public:
  fe::graph::Graph graph;
  AttentionLayout layout = AttentionLayout::kRegular;
  AttentionPass pass = AttentionPass::kForward;
  cudnnHandle_t handle = nullptr;
  int64_t workspace_bytes = 0;
};

namespace {

// Names of tensors in a graph: matrices from 1, where their documents begin from 101.
constexpr int64_t kFirstMatrix = 1, kFirstBegins = 101, kStats = 201, kQueryLengths = 202, kKeyLengths = 203;

constexpr const char* kNames[kAttentionMatrices] = {"q", "k", "v", "out", "d_out", "d_q", "d_k", "d_v"};
constexpr const char* name_of(AttentionPass pass) {
  return pass == AttentionPass::kForward ? "attention.forward" : "attention.backward";
}

struct Refused {
  std::string reason;
  bool for_good = true;  // the same answer would come again
};
void accept(fe::error_t error) {
  if (error.is_bad()) throw Refused{error.get_message()};
}

// Never destroyed: cuDNN may be gone first when a process ends.
struct Library {
  std::mutex mutex;  // handles and graphs are not for two threads at once
  bool tried = false;
  std::map<int, cudnnHandle_t> handles;
  std::map<AttentionGraphKey, std::unique_ptr<CudnnAttentionGraph>> graphs;  // null: refused
};
Library& library() {
  static Library& instance = *new Library;
  return instance;
}

// The one handle of this process on `device`, which is the current one.
cudnnHandle_t handle_on(int device) {
  Library& cudnn = library();
  if (!std::exchange(cudnn.tried, true)) fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW);
  if (fe::cudnn_dlhandle == nullptr) throw Refused{"libcudnn.so.9 is not on this machine, or does not load"};
  cudnnHandle_t& handle = cudnn.handles[device];
  if (handle == nullptr && fe::detail::create_handle(&handle) != CUDNN_STATUS_SUCCESS) {
    handle = nullptr;
    throw Refused{"no handle: " + fe::detail::get_last_error_string_(), false};  // memory may be short just now
  }
  return handle;
}

// Asked here: cudnn-frontend would look for a CUDA runtime of its own.
int architecture_of(int device) {
  int major = 0, minor = 0;
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "cudaDeviceGetAttribute");
  return major * 10 + minor;
}

// Describes the tensors of one graph: [documents, heads, length, width] each, whatever order they lie in.
class Tensors {
 public:
  Tensors(fe::graph::Graph& graph, const AttentionGraphKey& key) : graph_(graph), key_(key) {}

  FeTensor input(AttentionMatrix matrix) const {
    const FeTensor tensor = graph_.tensor(fe::graph::Tensor_attributes());
    describe(tensor, matrix);
    return tensor;
  }
  void output(const FeTensor& tensor, AttentionMatrix matrix) const {
    tensor->set_output(true);
    describe(tensor, matrix);
  }
  void describe_stats(const FeTensor& tensor) const {
    tensor->set_uid(kStats)
        .set_name("log_sum_exp")
        .set_data_type(fe::DataType_t::FLOAT)
        .set_dim({key_.documents, key_.shape.heads, key_.length, 1})
        .set_stride({key_.stats_document_stride, key_.stats_head_stride, 1, 1});
  }
  FeTensor stats_input() const {
    const FeTensor tensor = graph_.tensor(fe::graph::Tensor_attributes());
    describe_stats(tensor);
    return tensor;
  }
  // Causal masking; packed documents are as long as a table says.
  template <class Attributes>
  void mask(Attributes& attributes) const {
    attributes.set_attn_scale(static_cast<float>(key_.shape.scale)).set_causal_mask(true);
    if (key_.layout == AttentionLayout::kRegular) return;
    attributes.set_padding_mask(true)
        .set_seq_len_q(per_document(kQueryLengths, "query lengths", key_.documents, fe::DataType_t::INT32))
        .set_seq_len_kv(per_document(kKeyLengths, "key lengths", key_.documents, fe::DataType_t::INT32));
  }

 private:
  void describe(const FeTensor& tensor, AttentionMatrix matrix) const {
    const AttentionShape& s = key_.shape;
    const int index = static_cast<int>(matrix);
    const bool of_keys = matrix == AttentionMatrix::kK || matrix == AttentionMatrix::kDK;
    const bool of_values = matrix == AttentionMatrix::kV || matrix == AttentionMatrix::kDV;
    const bool of_queries = matrix == AttentionMatrix::kQ || matrix == AttentionMatrix::kDQ;
    const int64_t width = of_queries || of_keys ? s.qk_dim : s.v_dim;
    const int64_t row_stride = key_.row_strides[static_cast<size_t>(index)];
    tensor->set_uid(kFirstMatrix + index)
        .set_name(kNames[index])
        .set_data_type(fe::DataType_t::BFLOAT16)
        .set_dim({key_.documents, of_keys || of_values ? s.kv_heads : s.heads, key_.length, width})
        .set_stride({key_.length * row_stride, width, row_stride, 1});
    if (key_.layout == AttentionLayout::kPacked) {
      tensor->set_ragged_offset(
          per_document(kFirstBegins + index, kNames[index], key_.documents + 1, fe::DataType_t::INT64));
    }
  }
  FeTensor per_document(int64_t uid, const char* name, int64_t count, fe::DataType_t type) const {
    return graph_.tensor(fe::graph::Tensor_attributes()
                             .set_uid(uid)
                             .set_name(std::string(name) + " of documents")
                             .set_data_type(type)
                             .set_dim({count, 1, 1, 1})
                             .set_stride({1, 1, 1, 1}));
  }

  fe::graph::Graph& graph_;
  const AttentionGraphKey& key_;
};

void describe_forward(const Tensors& tensors, fe::graph::Graph& graph) {
  using enum AttentionMatrix;
  auto attributes = fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(true);
  tensors.mask(attributes);
  const auto [out, stats] = graph.sdpa(tensors.input(kQ), tensors.input(kK), tensors.input(kV), attributes);
  tensors.output(out, kOut);
  stats->set_output(true);
  tensors.describe_stats(stats);
}

// The deterministic algorithm writes dS of every (query, key) pair to the workspace, in bf16, and multiplies it with k
// afterwards, where the usual one adds up d_q atomically: 2 * documents * heads * length^2 bytes of workspace.
void describe_backward(const Tensors& tensors, fe::graph::Graph& graph) {
  using enum AttentionMatrix;
  auto attributes = fe::graph::SDPA_backward_attributes().set_name("attention").set_deterministic_algorithm(true);
  tensors.mask(attributes);
  const auto [d_q, d_k, d_v] =
      graph.sdpa_backward(tensors.input(kQ), tensors.input(kK), tensors.input(kV), tensors.input(kOut),
                          tensors.input(kDOut), tensors.stats_input(), attributes);
  tensors.output(d_q, kDQ);
  tensors.output(d_k, kDK);
  tensors.output(d_v, kDV);
}

std::unique_ptr<CudnnAttentionGraph> build(const AttentionGraphKey& key) {
  auto built = std::make_unique<CudnnAttentionGraph>();
  built->handle = handle_on(key.device);
  built->layout = key.layout;
  built->pass = key.pass;
  fe::graph::Graph& graph = built->graph;
  graph.set_sm_version(architecture_of(key.device))
      .set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  const Tensors tensors(graph, key);
  key.pass == AttentionPass::kForward ? describe_forward(tensors, graph) : describe_backward(tensors, graph);
  accept(graph.validate());
  accept(graph.build_operation_graph(built->handle));
  accept(graph.create_execution_plans({fe::HeurMode_t::A}));
  accept(graph.check_support());
  accept(graph.build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE));
  accept(graph.get_workspace_size(built->workspace_bytes));
  return built;
}

}  // namespace

const CudnnAttentionGraph* find_attention_graph(const AttentionGraphKey& key) {
  Library& cudnn = library();
  const std::lock_guard lock(cudnn.mutex);
  const auto found = cudnn.graphs.find(key);
  if (found != cudnn.graphs.end()) return found->second.get();
  std::string reason;
  bool for_good = true;
  try {
    return (cudnn.graphs[key] = build(key)).get();
  } catch (const Refused& refused) {
    reason = refused.reason;
    for_good = refused.for_good;
  } catch (const Error&) {  // of CUDA itself
    throw;
  } catch (const std::runtime_error& error) {  // a symbol that an older library lacks
    reason = error.what();
  }
  if (for_good) {
    cudnn.graphs[key] = nullptr;
  } else {
    cudnn.graphs.erase(key);
  }
  reason = reason.substr(0, reason.find('\n'));
  warn_library_refused(CudaLibrary::kCudnn, "attention", reason.c_str());
  return nullptr;
}

int64_t workspace_bytes(const CudnnAttentionGraph& graph) { return graph.workspace_bytes; }

void run_attention_graph(const CudnnAttentionGraph& graph, const AttentionGraphOperands& operands, CudaQueue queue) {
  const std::lock_guard lock(library().mutex);
  std::unordered_map<int64_t, void*> addresses{{kStats, operands.stats}};
  const bool packed = graph.layout == AttentionLayout::kPacked;
  if (packed) {
    addresses[kQueryLengths] = operands.lengths;
    addresses[kKeyLengths] = operands.lengths;
  }
  for (int i = 0; i < kAttentionMatrices; ++i) {
    if (!has_matrix(graph.pass, static_cast<AttentionMatrix>(i))) continue;
    addresses[kFirstMatrix + i] = operands.matrices[static_cast<size_t>(i)];
    if (packed) addresses[kFirstBegins + i] = operands.begins[static_cast<size_t>(i)];
  }
  if (fe::detail::set_stream(graph.handle, queue) != CUDNN_STATUS_SUCCESS) {
    fail("{}: cuDNN does not take the queue: {}", name_of(graph.pass), fe::detail::get_last_error_string_());
  }
  fe::error_t error = graph.graph.execute(graph.handle, addresses, operands.workspace);
  if (error.is_bad()) fail("{}: cuDNN failed: {}", name_of(graph.pass), error.get_message());
}

}  // namespace shoal
#endif
