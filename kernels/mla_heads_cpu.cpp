// kernels/mla_heads_cpu.cpp: one row's heads put together and taken apart.
#include "kernels/mla_heads_cpu.h"

#include <algorithm>

namespace shoal {

void mla_heads_forward_cpu(Tensor k, Tensor v, const Tensor& kv, const Tensor& k_rope, const MlaHeads& s) {
  dispatch_floating(k.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < kv.size(0); ++row) {
      const T* from = kv.data<T>() + row * kv.row_stride();
      const T* rope = k_rope.data<T>() + row * k_rope.row_stride();
      T* key = k.data<T>() + row * k.row_stride();
      T* value = v.data<T>() + row * v.row_stride();
      for (int64_t head = 0; head < s.heads; ++head) {
        key = std::copy_n(from, s.nope, key);
        key = std::copy_n(rope, s.rope, key);
        value = std::copy_n(from + s.nope, s.v_dim, value);
        from += s.nope + s.v_dim;
      }
    }
  });
}

void mla_heads_backward_cpu(Tensor d_kv, Tensor d_k_rope, const Tensor& d_k, const Tensor& d_v, const MlaHeads& s) {
  dispatch_floating(d_k.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < d_kv.size(0); ++row) {
      const T* d_key = d_k.data<T>() + row * d_k.row_stride();
      const T* d_value = d_v.data<T>() + row * d_v.row_stride();
      T* into = d_kv.data<T>() + row * d_kv.row_stride();
      T* d_rope = d_k_rope.data<T>() + row * d_k_rope.row_stride();
      for (int64_t i = 0; i < s.rope; ++i) {
        Arithmetic<T> total = 0;
        for (int64_t head = 0; head < s.heads; ++head) total += load(d_key[head * (s.nope + s.rope) + s.nope + i]);
        d_rope[i] = store<T>(total);
      }
      for (int64_t head = 0; head < s.heads; ++head) {
        into = std::copy_n(d_key + head * (s.nope + s.rope), s.nope, into);
        into = std::copy_n(d_value + head * s.v_dim, s.v_dim, into);
      }
    }
  });
}

}  // namespace shoal
