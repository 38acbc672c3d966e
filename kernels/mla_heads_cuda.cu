// kernels/mla_heads_cuda.cu: a block for each row moves its heads' parts in the widest accesses they allow.
#include "kernels/cuda_block.h"
#include "kernels/cuda_rows.h"
#include "kernels/mla_heads_cuda.h"

namespace shoal {

namespace {

constexpr int kThreads = 256;

// Rows of units, `stride` units apart.
template <class Unit>
struct Units {
  Unit* data = nullptr;
  int64_t stride = 0;

  __device__ Unit* operator[](int64_t row) const { return data + row * stride; }
};
template <class Unit>
Units<Unit> units_of(const TensorView& x) {
  return {x.as<Unit>(), x.row_stride * size_of(x.dtype) / static_cast<int64_t>(sizeof(Unit))};
}

// The parts of a head, in units.
struct Parts {
  int heads = 0, nope = 0, rope = 0, v_dim = 0;
};
template <class Unit>
Parts parts_of(const MlaHeads& shape, DType dtype) {
  const auto units = [&](int64_t elements) {
    return static_cast<int>(elements * size_of(dtype) / static_cast<int64_t>(sizeof(Unit)));
  };
  return {static_cast<int>(shape.heads), units(shape.nope), units(shape.rope), units(shape.v_dim)};
}

// Calls f(head, unit of the head) for this thread's share of a row.
template <class F>
__device__ __forceinline__ void for_each_unit(int heads, int units, F&& f) {
  for (int i = static_cast<int>(threadIdx.x); i < heads * units; i += static_cast<int>(blockDim.x)) {
    f(i / units, i % units);
  }
}

template <class Unit>
__global__ void join_heads(Units<Unit> k, Units<Unit> v, Units<Unit> kv, Units<Unit> k_rope, Parts s) {
  const int64_t row = blockIdx.x;
  for_each_unit(s.heads, s.nope + s.rope, [&](int head, int i) {
    const Unit part = i < s.nope ? kv[row][head * (s.nope + s.v_dim) + i] : k_rope[row][i - s.nope];
    k[row][head * (s.nope + s.rope) + i] = part;
  });
  for_each_unit(s.heads, s.v_dim,
                [&](int head, int i) { v[row][head * s.v_dim + i] = kv[row][head * (s.nope + s.v_dim) + s.nope + i]; });
}

template <class Unit>
__global__ void split_heads(Units<Unit> d_kv, Units<Unit> d_k, Units<Unit> d_v, Parts s) {
  const int64_t row = blockIdx.x;
  for_each_unit(s.heads, s.nope + s.v_dim, [&](int head, int i) {
    const Unit part = i < s.nope ? d_k[row][head * (s.nope + s.rope) + i] : d_v[row][head * s.v_dim + i - s.nope];
    d_kv[row][head * (s.nope + s.v_dim) + i] = part;
  });
}

// A thread for each column of d_k_rope; heads ascend.
template <class T>
__global__ void sum_heads(Units<T> d_k_rope, Units<T> d_k, Parts s, int64_t rows) {
  const int64_t index = index_of_thread(), row = index / s.rope;
  const int column = static_cast<int>(index % s.rope);
  if (row >= rows) return;
  Arithmetic<T> total = 0;
#pragma unroll 8
  for (int head = 0; head < s.heads; ++head) total += load(d_k[row][head * (s.nope + s.rope) + s.nope + column]);
  d_k_rope[row][column] = store<T>(total);
}

// Calls f(Unit{}) with an access that all parts and rows allow.
template <class F, class... Views>
void dispatch_units(const MlaHeads& shape, F&& f, const TensorView& x, const Views&... others) {
  const int64_t sizes = ((x.row_stride | shape.nope | shape.rope | shape.v_dim) | ... | others.row_stride);
  const uint64_t addresses = (address_of(x.data) | ... | address_of(others.data));
  dispatch_unit(addresses | static_cast<uint64_t>(sizes * size_of(x.dtype)), f);
}

Grid grid_of(const TensorView& x) { return {dim3(static_cast<unsigned>(x.rows)), dim3(kThreads)}; }

}  // namespace

void mla_heads_forward_cuda(const TensorView& k, const TensorView& v, const TensorView& kv, const TensorView& k_rope,
                            const MlaHeads& shape, CudaQueue queue) {
  const auto launch = [&]<class Unit>(Unit) {
    launch_kernel("mla_heads.forward", join_heads<Unit>, grid_of(k), queue, units_of<Unit>(k), units_of<Unit>(v),
                  units_of<Unit>(kv), units_of<Unit>(k_rope), parts_of<Unit>(shape, k.dtype));
  };
  dispatch_units(shape, launch, k, v, kv, k_rope);
}

void mla_heads_backward_cuda(const TensorView& d_kv, const TensorView& d_k_rope, const TensorView& d_k,
                             const TensorView& d_v, const MlaHeads& shape, CudaQueue queue) {
  const auto launch = [&]<class Unit>(Unit) {
    launch_kernel("mla_heads.backward", split_heads<Unit>, grid_of(d_kv), queue, units_of<Unit>(d_kv),
                  units_of<Unit>(d_k), units_of<Unit>(d_v), parts_of<Unit>(shape, d_k.dtype));
  };
  dispatch_units(shape, launch, d_k, d_kv, d_v);
  dispatch_floating(d_k.dtype, [&]<class T>(T) {
    launch_kernel("mla_heads.backward", sum_heads<T>, grid_of_threads(d_k.rows * shape.rope), queue,
                  units_of<T>(d_k_rope), units_of<T>(d_k), parts_of<T>(shape, d_k.dtype), d_k.rows);
  });
}

}  // namespace shoal
