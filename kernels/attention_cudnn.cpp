// kernels/attention_cudnn.cpp: cuts a call into runs of documents and heads that cuDNN's graphs take, and runs them.
#if SHOAL_HAS_CUDNN
#include "kernels/attention_cudnn.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "core/base/cuda_check.h"
#include "kernels/attention_cudnn_runs.h"
#include "kernels/attention_stats_cuda.h"
#include "kernels/cuda_libraries.h"
#include "kernels/host_table_cuda.h"

namespace shoal {

namespace {

PerMatrix<TensorView> views_of(const AttentionCall& call) {
  return {call.q.view(),     call.k.view(),   call.v.view(),   call.out.view(),
          call.d_out.view(), call.d_q.view(), call.d_k.view(), call.d_v.view()};
}

// cuDNN reads 16 bytes at a time. Below 64 its tensor cores have little to do, and two different widths above 128 are
// known to go wrong, but for those of multi-head latent attention.
bool fits(AttentionPass pass, const AttentionCall& call) {
  const AttentionShape& s = call.shape;
  const auto width_fits = [](int64_t width) { return width % 8 == 0 && width >= 64 && width <= 256; };
  if (!width_fits(s.qk_dim) || !width_fits(s.v_dim)) return false;
  const bool latent = s.qk_dim == 192 && s.v_dim == 128;
  if (s.qk_dim != s.v_dim && !latent && std::max(s.qk_dim, s.v_dim) > 128) return false;
  const PerMatrix<TensorView> views = views_of(call);
  for (int i = 0; i < kAttentionMatrices; ++i) {
    const TensorView& view = views[static_cast<size_t>(i)];
    if (!has_matrix(pass, static_cast<AttentionMatrix>(i))) continue;
    if (view.row_stride % 8 != 0 || reinterpret_cast<uintptr_t>(view.data) % 16 != 0) return false;
  }
  return s.heads <= kMostAttentionInGrid && call.q.size(0) <= std::numeric_limits<int32_t>::max();
}

// cuDNN's log_sum_exp is the same quantity. Forward writes it in any strides; backward reads it as a dense rectangle
// of documents, heads and length, which only a single document is in ours.
bool stats_in_place(AttentionPass pass, const AttentionCall& call, const AttentionDocuments& documents) {
  const TensorView stats = call.log_sum_exp.view();
  if (documents.layout == AttentionLayout::kPacked) return false;
  if (reinterpret_cast<uintptr_t>(stats.data) % 16 != 0 || stats.row_stride % 4 != 0) return false;
  return pass == AttentionPass::kForward || (documents.count() == 1 && stats.row_stride == documents.length);
}

// Documents that one graph computes, and where their tables begin: bytes in the table of the call.
struct Run {
  int64_t first = 0, documents = 0;
  const CudnnAttentionGraph* graph = nullptr;
  int64_t token_begins = 0, lengths = 0;
  PerMatrix<int64_t> begins{};
};

// Tables for the device, each aligned to 16 bytes.
struct HostTable {
  std::vector<std::byte> bytes;

  template <class T>
  int64_t add(const std::vector<T>& values) {
    const size_t at = bytes.size();
    bytes.resize(at + (values.size() * sizeof(T) + 15) / 16 * 16);
    std::memcpy(bytes.data() + at, values.data(), values.size() * sizeof(T));
    return static_cast<int64_t>(at);
  }
};

void add_tables(Run& run, HostTable& table, const AttentionDocuments& documents,
                const PerMatrix<int64_t>& row_strides) {
  std::vector<int32_t> token_begins, lengths;
  for (int64_t d = run.first; d < run.first + run.documents; ++d) {
    token_begins.push_back(static_cast<int32_t>(documents.begin(d)));
    lengths.push_back(static_cast<int32_t>(documents.begin(d + 1) - documents.begin(d)));
  }
  run.token_begins = table.add(token_begins);
  run.lengths = table.add(lengths);
  if (documents.layout == AttentionLayout::kRegular) return;
  for (size_t i = 0; i < row_strides.size(); ++i) {
    const size_t same =  // columns of one projection share a table
        static_cast<size_t>(std::find(row_strides.begin(), row_strides.end(), row_strides[i]) - row_strides.begin());
    run.begins[i] = run.begins[same];
    if (same < i || row_strides[i] == 0) continue;
    std::vector<int64_t> begins;
    for (int64_t d = run.first; d <= run.first + run.documents; ++d) {
      begins.push_back(documents.begin(d) * row_strides[i]);
    }
    run.begins[i] = table.add(begins);
  }
}

}  // namespace

struct CudnnAttention {
  AttentionPass pass = AttentionPass::kForward;
  AttentionDocuments documents;
  AttentionRunSize size;
  bool stats_in_place = false;
  std::vector<Run> runs;
  HostTable host_table;
  Tensor table, stats, workspace;
};

namespace {

AttentionGraphKey key_of(const CudnnAttention& prepared, const AttentionCall& call) {
  const AttentionShape& s = call.shape;
  AttentionGraphKey key{
      .pass = prepared.pass, .layout = prepared.documents.layout, .length = prepared.documents.length, .shape = s};
  key.shape.kv_heads = prepared.size.kv_heads;
  key.shape.heads = prepared.size.kv_heads * (s.heads / s.kv_heads);
  const PerMatrix<TensorView> views = views_of(call);
  for (int i = 0; i < kAttentionMatrices; ++i) {
    if (has_matrix(prepared.pass, static_cast<AttentionMatrix>(i))) {
      key.row_strides[static_cast<size_t>(i)] = views[static_cast<size_t>(i)].row_stride;
    }
  }
  const bool rows_of_heads = prepared.stats_in_place && prepared.pass == AttentionPass::kForward;
  key.stats_document_stride = rows_of_heads ? key.length : key.shape.heads * key.length;
  key.stats_head_stride = rows_of_heads ? call.log_sum_exp.row_stride() : key.length;
  check_cuda(cudaGetDevice(&key.device), "cudaGetDevice");
  return key;
}

// Fills in the runs; false when cuDNN refuses one.
bool find_runs(CudnnAttention& prepared, AttentionGraphKey key) {
  for (int64_t done = 0; done < prepared.documents.count(); done += key.documents) {
    key.documents = attention_run_documents(prepared.documents, prepared.size, done);
    Run run{.first = done, .documents = key.documents, .graph = find_attention_graph(key)};
    if (run.graph == nullptr) return false;
    if (!prepared.stats_in_place) add_tables(run, prepared.host_table, prepared.documents, key.row_strides);
    prepared.runs.push_back(run);
  }
  return true;
}

void allocate(CudnnAttention& prepared, const AttentionGraphKey& key, Stream& stream) {
  int64_t bytes = 0, documents = 0;
  for (const Run& run : prepared.runs) {
    bytes = std::max(bytes, workspace_bytes(*run.graph));
    documents = std::max(documents, run.documents);
  }
  prepared.workspace = stream.workspace({bytes}, DType::kU8);
  if (prepared.stats_in_place) return;
  prepared.table = stream.workspace({static_cast<int64_t>(prepared.host_table.bytes.size())}, DType::kU8);
  prepared.stats = stream.workspace({documents, key.shape.heads, key.length}, DType::kF32);
}

// Of kv heads from `kv_head` on.
AttentionGraphOperands operands_of(const CudnnAttention& prepared, const AttentionCall& call, const Run& run,
                                   int64_t kv_head) {
  const AttentionShape& s = call.shape;
  const int64_t head = kv_head * (s.heads / s.kv_heads);
  const int64_t q_column = head * s.qk_dim, k_column = kv_head * s.qk_dim, v_column = kv_head * s.v_dim;
  const int64_t out_column = head * s.v_dim;
  const PerMatrix<int64_t> columns{q_column, k_column, v_column, out_column, out_column, q_column, k_column, v_column};
  const PerMatrix<TensorView> views = views_of(call);
  const bool regular = prepared.documents.layout == AttentionLayout::kRegular;
  AttentionGraphOperands operands{.workspace = prepared.workspace.raw()};
  for (size_t i = 0; i < views.size(); ++i) {
    if (!views[i].defined()) continue;
    const int64_t first_row = regular ? prepared.documents.begin(run.first) : 0;
    operands.matrices[i] = views[i].as<bfloat16>() + first_row * views[i].row_stride + columns[i];
    if (!regular) operands.begins[i] = prepared.table.raw() + run.begins[i];
  }
  if (!regular) operands.lengths = prepared.table.raw() + run.lengths;
  operands.stats = prepared.stats_in_place ? call.log_sum_exp.data<float>() + head * call.log_sum_exp.row_stride() +
                                                 prepared.documents.begin(run.first)
                                           : prepared.stats.data<float>();
  return operands;
}

}  // namespace

std::shared_ptr<const CudnnAttention> prepare_attention_cudnn(AttentionPass pass, const AttentionCall& call,
                                                              Stream& stream) {
  if (stream.device() != DeviceKind::kCuda || call.q.dtype() != DType::kBF16 || call.q.size(0) == 0) return nullptr;
  if (!may_call(CudaLibrary::kCudnn) || !fits(pass, call)) return nullptr;
  auto prepared = std::make_shared<CudnnAttention>();
  prepared->pass = pass;
  prepared->documents = attention_documents(call.offsets);
  prepared->size = attention_run_size(pass, call.shape, prepared->documents);
  if (prepared->size.documents == 0) {
    warn_library_refused(CudaLibrary::kCudnn, "attention",
                         "documents are so long that its deterministic algorithm would take over 4 GiB for a kv head");
    return nullptr;
  }
  prepared->stats_in_place = stats_in_place(pass, call, prepared->documents);
  const AttentionGraphKey key = key_of(*prepared, call);
  if (!find_runs(*prepared, key)) return nullptr;
  allocate(*prepared, key, stream);
  return prepared;
}

void attention_cudnn(const CudnnAttention& prepared, const AttentionCall& call, CudaQueue queue) {
  const AttentionShape& s = call.shape;
  const bool forward = prepared.pass == AttentionPass::kForward;
  if (!prepared.stats_in_place) {
    write_host_table_cuda(forward ? "attention.forward" : "attention.backward", prepared.table.raw(),
                          prepared.host_table.bytes.data(), prepared.table.bytes(), queue);
  }
  const int64_t group_heads = s.heads / s.kv_heads;
  for (const Run& run : prepared.runs) {
    for (int64_t kv_head = 0; kv_head < s.kv_heads; kv_head += prepared.size.kv_heads) {
      const AttentionGraphOperands operands = operands_of(prepared, call, run, kv_head);
      AttentionStats stats{.row_stride = call.log_sum_exp.row_stride(),
                           .rectangle = static_cast<float*>(operands.stats),
                           .documents = run.documents,
                           .heads = prepared.size.kv_heads * group_heads,
                           .length = prepared.documents.length};
      if (!prepared.stats_in_place) {
        stats.rows = call.log_sum_exp.data<float>() + kv_head * group_heads * stats.row_stride;
        stats.begins = reinterpret_cast<const int32_t*>(prepared.table.raw() + run.token_begins);
        stats.lengths = reinterpret_cast<const int32_t*>(prepared.table.raw() + run.lengths);
        if (!forward) spread_attention_stats_cuda(stats, queue);
      }
      run_attention_graph(*run.graph, operands, queue);
      if (!prepared.stats_in_place && forward) gather_attention_stats_cuda(stats, queue);
    }
  }
}

}  // namespace shoal
#endif
