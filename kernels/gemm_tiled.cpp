// kernels/gemm_tiled.cpp: the register tile, the cache tile around it, and the tiles of all products dealt to threads.
#include "kernels/gemm_tiled.h"

#include <algorithm>
#include <vector>

#include "core/base/openmp.h"
#include "kernels/quantize.h"
#include "kernels/tile_operands.h"

namespace shoal {

namespace {

// A cache tile: kMaxRows x kDepth of A and the partial sums stay in the second-level cache, a panel of B in the first.
constexpr int64_t kMaxRows = 144, kMaxColumns = 256, kDepth = 256;
constexpr int kLanes = kLanesOf<float>, kPanel = kPanelOf<float>;
static_assert(kMaxRows % kTileRows == 0 && kMaxColumns % kPanel == 0);
static_assert(kTile <= kDepth && kTile % kPanel == 0);  // a panel meets one scale of a block
constexpr int64_t kScratchPerThread = kMaxRows * kDepth + kDepth * kPanel + kMaxRows * kMaxColumns + kMaxRows;
// Products below this many multiply-adds are not worth a parallel region.
constexpr int64_t kMinParallel = 1 << 16;

using Vec = Vector<float>;

// Where a register tile's sums come from and go to.
struct Target {
  float* partial = nullptr;  // rows kMaxColumns apart
  bool first = true;         // no partial sums yet
  bool last = true;          // leaves for C
  std::byte* c = nullptr;
  DType dtype = DType::kF32;
  int64_t c_stride = 0;
  int64_t columns = kPanel;  // of C in this panel
  Write mode = Write::kOverwrites;
  // Of a product of codes: the scale of row i of A, in this block of the summed index, at row_scales[i * stride]; those
  // of the panel's columns. Null otherwise.
  const float* row_scales = nullptr;
  int64_t row_scale_stride = 1;
  const float* column_scales = nullptr;
};

// One block's sums of products of codes become what they stand for, and join the blocks before.
template <int rows>
[[gnu::always_inline]] inline void scale_and_add(Vec (&sums)[rows][2], const Target& to) {
  const Vec* columns = reinterpret_cast<const Vec*>(to.column_scales);
  for (int i = 0; i < rows; ++i) {
    const float row = to.row_scales[i * to.row_scale_stride];
    const Vec* before = reinterpret_cast<const Vec*>(to.partial + i * kMaxColumns);
    for (int j = 0; j < 2; ++j) {
      const Vec start = to.first ? Vec{} : before[j];
      sums[i][j] = multiply_add(sums[i][j], row * columns[j], start);
    }
  }
}

template <class T>
void leave_edge(const Vec* sums, T* c, int64_t columns, Write mode) {
  float values[kPanel];
  *reinterpret_cast<Vec*>(values) = sums[0];
  *reinterpret_cast<Vec*>(values + kLanes) = sums[1];
  for (int64_t j = 0; j < columns; ++j) {
    c[j] = store<T>(mode == Write::kAccumulates ? load(c[j]) + values[j] : values[j]);
  }
}

void leave_row(const Vec* sums, const Target& to, int64_t row) {
  const int64_t at = row * to.c_stride;
  if (to.dtype == DType::kBF16) {
    leave_edge(sums, reinterpret_cast<bfloat16*>(to.c) + at, to.columns, to.mode);
  } else if (to.columns < kPanel) {
    leave_edge(sums, reinterpret_cast<float*>(to.c) + at, to.columns, to.mode);
  } else {
    Vec* c = reinterpret_cast<Vec*>(reinterpret_cast<float*>(to.c) + at);
    const bool adds = to.mode == Write::kAccumulates;
    c[0] = adds ? c[0] + sums[0] : sums[0];
    c[1] = adds ? c[1] + sums[1] : sums[1];
  }
}

// A register tile from its first step to where it goes.
template <int rows, Sums direction>
void multiply(const float* a, int64_t a_stride, const float* b, int64_t depth, const Target& to) {
  Vec sums[rows][2];
  const bool scaled = to.row_scales != nullptr;
  begin_tile<rows, float>(sums, to.partial, kMaxColumns, to.first || scaled);
  add_products<rows, direction, float>(sums, a, a_stride, b, kPanel, depth);
  if (scaled) scale_and_add<rows>(sums, to);
  if (to.last) {
    for (int i = 0; i < rows; ++i) leave_row(sums[i], to, i);
  } else {
    leave_tile<rows, float>(sums, to.partial, kMaxColumns);
  }
}

// One product and how it is cut into cache tiles.
struct Cut {
  const TiledProduct* product = nullptr;
  int64_t m = 0, n = 0, k = 0;
  int64_t tile_rows = kMaxRows, tile_columns = kMaxColumns;
  int64_t first_tile = 0;

  int64_t num_row_tiles() const { return (m + tile_rows - 1) / tile_rows; }
  int64_t num_tiles() const { return num_row_tiles() * ((n + tile_columns - 1) / tile_columns); }
};

class TileRun {
 public:
  TileRun(const Cut& cut, int64_t tile, float* scratch)
      : p_(*cut.product),
        k_(cut.k),
        a_block_(scratch),
        b_panel_(a_block_ + kMaxRows * kDepth),
        partial_(b_panel_ + kDepth * kPanel),
        line_(partial_ + kMaxRows * kMaxColumns) {
    row_ = tile % cut.num_row_tiles() * cut.tile_rows;
    column_ = tile / cut.num_row_tiles() * cut.tile_columns;
    rows_ = std::min(cut.tile_rows, cut.m - row_);
    columns_ = std::min(cut.tile_columns, cut.n - column_);
  }

  void run() {
    const int64_t depth = p_.is_scaled() ? kTile : kDepth;
    for (int64_t k = 0; k < k_; k += depth) run_depth(k, std::min(depth, k_ - k));
  }

 private:
  void run_depth(int64_t k, int64_t depth) {
    const bool sums_rows = p_.b.defined();
    const float* a = a_block_;
    int64_t a_stride = kDepth;
    if (sums_rows) {
      with_elements(p_.a, [&](const auto* from) {
        interleave(a_block_, line_, from + k * p_.a.row_stride() + row_, p_.a.row_stride(), rows_, depth);
      });
    } else if (p_.a.dtype() == DType::kF32) {
      a_stride = p_.a.row_stride();
      a = p_.a.data<float>() + row_ * a_stride + k;
    } else {
      with_elements(p_.a, [&](const auto* from) {
        widen_rows(a_block_, kDepth, from + row_ * p_.a.row_stride() + k, p_.a.row_stride(), rows_, depth);
      });
    }
    Target to{.first = k == 0,
              .last = k + depth == k_,
              .dtype = p_.c.dtype(),
              .c_stride = p_.c.row_stride(),
              .mode = p_.mode};
    for (int64_t j = 0; j < columns_; j += kPanel) {
      to.columns = std::min<int64_t>(kPanel, columns_ - j);
      const float* b = panel(k, depth, column_ + j, to.columns);
      if (p_.is_scaled()) take_column_scales(k / kTile, column_ + j, to);
      for (int64_t i = 0; i < rows_; i += kTileRows) {
        to.partial = partial_ + i * kMaxColumns + j;
        to.c = p_.c.raw() + ((row_ + i) * p_.c.row_stride() + column_ + j) * size_of(p_.c.dtype());
        if (p_.is_scaled()) take_row_scales(k / kTile, row_ + i, to);
        with_rows(std::min<int64_t>(kTileRows, rows_ - i), [&](auto rows) {
          if (sums_rows) {
            multiply<rows, Sums::kAcrossRows>(a + i * depth, kTileRows, b, depth, to);
          } else {
            multiply<rows, Sums::kAlongRows>(a + i * a_stride, a_stride, b, depth, to);
          }
        });
      }
    }
  }

  const float* panel(int64_t k, int64_t depth, int64_t column, int64_t columns) {
    if (p_.b.defined()) {
      with_elements(p_.b, [&](const auto* from) {
        take_panel<kPanel>(b_panel_, from + k * p_.b.row_stride() + column, p_.b.row_stride(), columns, depth);
      });
      return b_panel_;
    }
    const int64_t at = column * k_ + k * kPanel;
    if (p_.packed_b != nullptr) return p_.packed_b + at;
    widen(b_panel_, p_.packed_codes + at, depth * kPanel);
    return b_panel_;
  }

  void take_column_scales(int64_t block, int64_t column, Target& to) {
    if (p_.b.defined()) {
      const float* from = p_.b_scales.data<float>() + block * p_.b_scales.row_stride() + column;
      for (int64_t j = 0; j < kPanel; ++j) column_scales_[j] = j < to.columns ? from[j] : 0.0f;
    } else {
      const int64_t tile = column / kTile;
      const int64_t row = p_.blocks_across ? block : tile, at = p_.blocks_across ? tile : block;
      std::fill_n(column_scales_, kPanel, p_.b_scales.data<float>()[row * p_.b_scales.row_stride() + at]);
    }
    to.column_scales = column_scales_;
  }

  void take_row_scales(int64_t block, int64_t row, Target& to) const {
    const bool sums_rows = p_.b.defined();
    to.row_scale_stride = sums_rows ? 1 : p_.a_scales.row_stride();
    to.row_scales = p_.a_scales.data<float>() +
                    (sums_rows ? block * p_.a_scales.row_stride() + row : row * p_.a_scales.row_stride() + block);
  }

  const TiledProduct& p_;
  int64_t k_;
  float* a_block_;
  float* b_panel_;
  float* partial_;
  float* line_;
  int64_t row_, column_, rows_, columns_;
  alignas(kVectorBytes) float column_scales_[kPanel];
};

// Smaller tiles until every thread has a few; never so small that packing shows.
void cut_for_threads(std::vector<Cut>& cuts, int threads) {
  const auto total = [&] {
    int64_t tiles = 0;
    for (Cut& cut : cuts) {
      cut.first_tile = tiles;
      tiles += cut.num_tiles();
    }
    return tiles;
  };
  const int64_t wanted = threads == 1 ? 1 : 6 * threads;
  for (int64_t columns = kMaxColumns / 2; total() < wanted && columns >= 2 * kPanel; columns /= 2) {
    for (Cut& cut : cuts) cut.tile_columns = columns;
  }
  for (const int64_t rows : {int64_t{72}, int64_t{36}}) {
    if (total() >= wanted) break;
    for (Cut& cut : cuts) cut.tile_rows = rows;
  }
  total();
}

}  // namespace

int64_t tiled_packed_numel(int64_t k, int64_t n) { return (n + kPanel - 1) / kPanel * kPanel * k; }

namespace {

template <class To, class T>
void pack_panels(To* packed, const Tensor& weight, PackedSide side) {
  const bool transposed = side == PackedSide::kTransposed;
  const int64_t k = weight.size(transposed ? 1 : 0), n = weight.size(transposed ? 0 : 1), stride = weight.row_stride();
  const T* from = weight.data<T>();
#pragma omp parallel for schedule(static) if (k * n > kMinParallel)
  for (int64_t column = 0; column < n; column += kPanel) {
    const int64_t columns = std::min<int64_t>(kPanel, n - column);
    To* to = packed + column * k;
    if (!transposed) {
      take_panel<kPanel>(to, from + column, stride, columns, k);
      continue;
    }
    if (columns < kPanel) std::fill_n(to, k * kPanel, To());
    // Short runs of k, so that a run of the panel stays in the first-level cache while the columns visit it.
    constexpr int64_t kRun = 64;
    for (int64_t begin = 0; begin < k; begin += kRun) {
      const int64_t end = std::min(k, begin + kRun);
      for (int64_t j = 0; j < columns; ++j) {
        const T* row = from + (column + j) * stride;
        for (int64_t i = begin; i < end; ++i) {
          if constexpr (std::is_same_v<To, T>) {
            to[i * kPanel + j] = row[i];
          } else {
            to[i * kPanel + j] = static_cast<float>(load(row[i]));
          }
        }
      }
    }
  }
}

}  // namespace

void tiled_pack(float* packed, const Tensor& weight, PackedSide side) {
  dispatch_floating(weight.dtype(), [&]<class T>(T) { pack_panels<float, T>(packed, weight, side); });
}

void tiled_pack_codes(float8_e4m3* packed, const Tensor& codes, PackedSide side) {
  pack_panels<float8_e4m3, float8_e4m3>(packed, codes, side);
}

void tiled_unpack_codes(float* to, const float8_e4m3* packed, int64_t k, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    const float8_e4m3* from = packed + j / kPanel * kPanel * k + j % kPanel;
    for (int64_t i = 0; i < k; ++i) to[j * k + i] = load(from[i * kPanel]);
  }
}

int64_t tiled_scratch_numel() { return omp_get_max_threads() * kScratchPerThread; }

void tiled_gemm(std::span<const TiledProduct> products, float* scratch) {
  std::vector<Cut> cuts;
  int64_t multiply_adds = 0;
  for (const TiledProduct& product : products) {
    Cut cut{.product = &product, .m = product.c.size(0), .n = product.c.size(1)};
    cut.k = product.a.size(product.b.defined() ? 0 : 1);
    multiply_adds += cut.m * cut.n * cut.k;
    cuts.push_back(cut);
  }
  if (cuts.empty()) return;
  const int threads = multiply_adds < kMinParallel ? 1 : omp_get_max_threads();
  cut_for_threads(cuts, threads);
  const int64_t num_tiles = cuts.back().first_tile + cuts.back().num_tiles();
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    float* own = scratch + omp_get_thread_num() * kScratchPerThread;
#pragma omp for schedule(dynamic)
    for (int64_t tile = 0; tile < num_tiles; ++tile) {
      const auto after = std::upper_bound(cuts.begin(), cuts.end(), tile,
                                          [](int64_t t, const Cut& cut) { return t < cut.first_tile; });
      const Cut& cut = *(after - 1);
      TileRun(cut, tile - cut.first_tile, own).run();
    }
  }
}

}  // namespace shoal
