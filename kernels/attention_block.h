// kernels/attention_block.h: what attention's two directions share: blocks of rows in dense scratch, and their
// products.
#pragma once

#include <algorithm>
#include <cstddef>

#include "core/base/openmp.h"
#include "kernels/attention_cpu.h"
#include "kernels/register_tile.h"

namespace shoal {

// Queries and keys of a block: whole register tiles both ways, small enough for the first- and second-level caches.
constexpr int64_t kBlock = 96;

// Rows of scratch are whole panels, so that products need no edges; what lies behind a row's end is zero.
template <class A>
constexpr int64_t panels(int64_t columns) {
  return (columns + kPanelOf<A> - 1) / kPanelOf<A> * kPanelOf<A>;
}
constexpr int64_t blocks(int64_t length) { return (length + kBlock - 1) / kBlock; }

// One head of one document.
struct AttentionUnit {
  int64_t head = 0, kv_head = 0, begin = 0, length = 0;
};

// The longest documents first: threads take units as they come free.
inline std::vector<AttentionUnit> attention_units(const AttentionCall& call) {
  std::vector<AttentionUnit> units;
  for (size_t d = 0; d + 1 < call.offsets.size(); ++d) {
    const int64_t length = call.offsets[d + 1] - call.offsets[d];
    for (int64_t head = 0; length > 0 && head < call.shape.heads; ++head) {
      units.push_back({head, head / (call.shape.heads / call.shape.kv_heads), call.offsets[d], length});
    }
  }
  std::stable_sort(units.begin(), units.end(),
                   [](const AttentionUnit& a, const AttentionUnit& b) { return a.length > b.length; });
  return units;
}

inline int64_t longest_document(const std::vector<int64_t>& offsets) {
  int64_t longest = 0;
  for (size_t d = 0; d + 1 < offsets.size(); ++d) longest = std::max(longest, offsets[d + 1] - offsets[d]);
  return longest;
}

inline int attention_threads(size_t num_units) {
  return static_cast<int>(std::min<size_t>(static_cast<size_t>(omp_get_max_threads()), std::max<size_t>(num_units, 1)));
}

// Hands out parts of one thread's scratch, 64-byte aligned; counts alone when it starts from null.
template <class A>
class Scratch {
 public:
  explicit Scratch(A* begin) : begin_(begin) {}
  A* take(int64_t count) {
    A* const part = begin_ == nullptr ? nullptr : begin_ + used_;
    constexpr int64_t kStep = 64 / sizeof(A);
    used_ += (count + kStep - 1) / kStep * kStep;
    return part;
  }
  int64_t used() const { return used_; }

 private:
  A* begin_;
  int64_t used_ = 0;
};

// to [count, stride] = from [count, columns] * scale, zeros behind the columns and, up to `rows`, below.
template <class A, class T>
void take_rows(A* to, int64_t stride, const T* from, int64_t from_stride, int64_t count, int64_t columns, int64_t rows,
               A scale = 1) {
  for (int64_t i = 0; i < count; ++i) {
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j) to[i * stride + j] = static_cast<A>(load(from[i * from_stride + j])) * scale;
    std::fill(to + i * stride + columns, to + (i + 1) * stride, A{0});
  }
  std::fill(to + count * stride, to + rows * stride, A{0});
}

// to [columns, kBlock] = transpose of from [count, columns], zeros behind.
template <class A, class T>
void take_transposed(A* to, const T* from, int64_t from_stride, int64_t count, int64_t columns) {
  for (int64_t j = 0; j < columns; ++j) std::fill(to + j * kBlock + count, to + (j + 1) * kBlock, A{0});
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = 0; j < columns; ++j) to[j * kBlock + i] = static_cast<A>(load(from[i * from_stride + j]));
  }
}

template <class T, class A>
void leave_rows(T* to, int64_t to_stride, const A* from, int64_t stride, int64_t count, int64_t columns, A scale = 1) {
  for (int64_t i = 0; i < count; ++i) {
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j) to[i * to_stride + j] = store<T>(from[i * stride + j] * scale);
  }
}

// Which part of a product the causal mask of a diagonal block leaves, for a tile of rows that begins at row i.
enum class Causal {
  kAll,
  kColumns,     // columns up to the tile's last row: scores
  kDepthEnd,    // terms up to the tile's last row: probabilities times values
  kDepthBegin,  // terms from row i on: probabilities transposed times queries
};
enum class Start { kZero, kAdd };

// A tile of rows of c times all its panels.
template <int rows, Sums direction, Start start, class A>
void tile_product(A* c, int64_t c_stride, const A* a, int64_t a_stride, const A* b, int64_t b_stride, int64_t n,
                  int64_t depth) {
  for (int64_t j = 0; j < n; j += kPanelOf<A>) {
    Vector<A> sums[rows][2];
    begin_tile<rows, A>(sums, c + j, c_stride, start == Start::kZero);
    add_products<rows, direction, A>(sums, a, a_stride, b + j, b_stride, depth);
    leave_tile<rows, A>(sums, c + j, c_stride);
  }
}

// c [m, n] (+)= A [m, depth] · b [depth, n], n whole panels.
template <Sums direction, Start start, class A>
void block_product(A* c, int64_t c_stride, const A* a, int64_t a_stride, const A* b, int64_t b_stride, int64_t m,
                   int64_t n, int64_t depth, Causal causal) {
  for (int64_t i = 0; i < m; i += kTileRows) {
    const int64_t count = std::min<int64_t>(kTileRows, m - i);
    const int64_t columns = causal == Causal::kColumns ? std::min(n, panels<A>(i + count)) : n;
    const int64_t first = causal == Causal::kDepthBegin ? std::min(i, depth) : 0;
    const int64_t end = causal == Causal::kDepthEnd ? std::min(depth, i + count) : depth;
    const A* a_rows = direction == Sums::kAlongRows ? a + i * a_stride + first : a + first * a_stride + i;
    with_rows(count, [&](auto rows) {
      tile_product<rows, direction, start>(c + i * c_stride, c_stride, a_rows, a_stride, b + first * b_stride, b_stride,
                                           columns, end - first);
    });
  }
}

}  // namespace shoal
