// kernels/cublas_product.cpp: descriptors and the choice of a kernel are made once a shape, and kept.
//
// cuBLASLt thinks in columns: c by rows is its transpose by columns, so the library computes cᵀ = bᵀ · aᵀ, with our b
// as its A.
#include "kernels/cublas_product.h"

#if SHOAL_HAS_CUBLAS
#include <cublasLt.h>

#include <array>
#include <bit>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "core/base/out_of_memory.h"
#include "kernels/cuda_libraries.h"

namespace shoal {

namespace {

void check_cublas(cublasStatus_t status, const char* op, const CublasShape& s) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  if (status == CUBLAS_STATUS_ALLOC_FAILED) {
    throw OutOfMemory(fmt::format(
        "{}: out of memory: cuBLASLt finds none on the GPU; lower train.microbatch or the model's size", op));
  }
  fail("{}: cuBLASLt failed on a {} product of {} x {} x {}: {}", op, name_of(s.dtype), s.m, s.n, s.k,
       cublasLtGetStatusString(status));
}

// One of the library's descriptors, destroyed with its owner.
template <class Handle, cublasStatus_t (*destroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() {
    if (handle_ != nullptr) destroy(handle_);
  }
  Handle* fill() { return &handle_; }
  Handle get() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};
using Library = Owned<cublasLtHandle_t, cublasLtDestroy>;
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

struct Plan {
  Operation operation;
  Layout a, b, c;                                // of our a and b
  std::vector<cublasLtMatmulAlgo_t> algorithms;  // the library's suggestions, the one it thinks fastest first
};

struct HashOfShape {
  size_t operator()(const CublasShape& s) const {
    size_t hash = 0;
    for (const int64_t part : {static_cast<int64_t>(s.dtype), static_cast<int64_t>(s.c_dtype), int64_t{s.a_transposed},
                               int64_t{s.b_transposed}, int64_t{s.accumulates}, s.m, s.n, s.k, s.a_stride, s.b_stride,
                               s.c_stride, int64_t{s.a_alignment}, int64_t{s.b_alignment}, int64_t{s.c_alignment}}) {
      hash = std::rotl(hash, 7) * 0x9E3779B97F4A7C15u + static_cast<size_t>(part);
    }
    return hash;
  }
};

cudaDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::kF32: return CUDA_R_32F;
    case DType::kBF16: return CUDA_R_16BF;
    case DType::kE4M3: return CUDA_R_8F_E4M3;
    default: fail("cuBLASLt is not asked for products in {}", name_of(dtype));
  }
}

cublasLtMatmulMatrixScale_t mode_of(CublasScales scales) {
  switch (scales) {
    case CublasScales::kNone: break;
    case CublasScales::kRows: return CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
    case CublasScales::kBlocks: return CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F;
  }
  return CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
}

class Plans {
 public:
  Plan& plan_for(const char* op, const CublasShape& shape, const CublasOperands& operands) {
    // Runs of rows that experts get by chance never end to be new.
    constexpr size_t kMostPlans = 8192;
    if (library_.get() == nullptr) check_cublas(cublasLtCreate(library_.fill()), op, shape);
    if (const auto found = plans_.find(shape); found != plans_.end()) return found->second;
    if (plans_.size() >= kMostPlans) plans_.clear();
    Plan plan;
    make(plan, op, shape);
    set_scales(plan, op, shape, operands);  // before the library is asked: it wants addresses
    choose(plan, op, shape);
    return plans_.emplace(shape, std::move(plan)).first->second;
  }
  cublasLtHandle_t library() const { return library_.get(); }

  void set_scales(Plan& plan, const char* op, const CublasShape& shape, const CublasOperands& operands) {
    if (shape.dtype != DType::kE4M3) return;
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const float* scales) {
      check_cublas(cublasLtMatmulDescSetAttribute(plan.operation.get(), attribute, &scales, sizeof(scales)), op, shape);
    };
    set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, operands.b_scales);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, operands.a_scales);
  }

 private:
  void make(Plan& plan, const char* op, const CublasShape& s) {
    const auto check = [&](cublasStatus_t status) { check_cublas(status, op, s); };
    check(cublasLtMatmulDescCreate(plan.operation.fill(), CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
      check(cublasLtMatmulDescSetAttribute(plan.operation.get(), attribute, &value, sizeof(value)));
    };
    set(CUBLASLT_MATMUL_DESC_TRANSA, s.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, s.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (s.dtype == DType::kE4M3) {
      set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, mode_of(s.b_scales));
      set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, mode_of(s.a_scales));
    }
    const auto layout = [&](Layout& of, DType dtype, int64_t rows, int64_t width, int64_t stride) {
      check(cublasLtMatrixLayoutCreate(of.fill(), type_of(dtype), static_cast<uint64_t>(width),
                                       static_cast<uint64_t>(rows), stride));
    };
    layout(plan.a, s.dtype, s.a_transposed ? s.k : s.m, s.a_transposed ? s.m : s.k, s.a_stride);
    layout(plan.b, s.dtype, s.b_transposed ? s.n : s.k, s.b_transposed ? s.k : s.n, s.b_stride);
    layout(plan.c, s.c_dtype, s.m, s.n, s.c_stride);
  }

  void choose(Plan& plan, const char* op, const CublasShape& s) {
    const auto check = [&](cublasStatus_t status) { check_cublas(status, op, s); };
    Preference preference;
    check(cublasLtMatmulPreferenceCreate(preference.fill()));
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kCublasWorkspaceBytes));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(s.b_alignment));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(s.a_alignment));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(s.c_alignment));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(s.c_alignment));
    // Parts of a long sum are added up in an order of their own: in the workspace in f32, or in place, one block after
    // the other, where that is f32 too.
    const uint32_t in_place = s.c_dtype == DType::kF32 ? CUBLASLT_REDUCTION_SCHEME_INPLACE : 0;
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE} | in_place);
    std::array<cublasLtMatmulHeuristicResult_t, kMostCublasCandidates> results{};
    int found = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(library_.get(), plan.operation.get(), plan.b.get(), plan.a.get(), plan.c.get(),
                                       plan.c.get(), preference.get(), kMostCublasCandidates, results.data(), &found);
    for (int i = 0; i < found; ++i) {
      const cublasLtMatmulHeuristicResult_t& result = results[static_cast<size_t>(i)];
      if (result.state == CUBLAS_STATUS_SUCCESS) plan.algorithms.push_back(result.algo);
    }
    if (plan.algorithms.empty()) {
      const std::string reason = fmt::format("{} product of {} x {} x {}: {}", name_of(s.dtype), s.m, s.n, s.k,
                                             cublasLtGetStatusString(status));
      warn_library_refused(CudaLibrary::kCublas, op, reason.c_str());
    }
  }

  Library library_;
  std::unordered_map<CublasShape, Plan, HashOfShape> plans_;
};

}  // namespace

bool multiply_by_cublas(const char* op, const CublasShape& shape, const CublasOperands& operands, void* workspace,
                        CudaQueue queue, int candidate) {
  // A rank computes on one thread: its plans need no lock.
  thread_local Plans plans;
  Plan& plan = plans.plan_for(op, shape, operands);
  if (candidate >= std::ssize(plan.algorithms)) return false;
  plans.set_scales(plan, op, shape, operands);
  const float alpha = 1, beta = shape.accumulates ? 1 : 0;
  check_cublas(cublasLtMatmul(plans.library(), plan.operation.get(), &alpha, operands.b, plan.b.get(), operands.a,
                              plan.a.get(), &beta, operands.c, plan.c.get(), operands.c, plan.c.get(),
                              &plan.algorithms[static_cast<size_t>(candidate)], workspace,
                              static_cast<size_t>(kCublasWorkspaceBytes), queue),
               op, shape);
  return true;
}

}  // namespace shoal
#else
namespace shoal {
bool multiply_by_cublas(const char*, const CublasShape&, const CublasOperands&, void*, CudaQueue, int) { return false; }
}  // namespace shoal
#endif
