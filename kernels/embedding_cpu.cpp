// kernels/embedding_cpu.cpp: rows by token id; gradients of equal tokens meet by sorting, never by atomics.
#include "kernels/embedding_cpu.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/operands.h"

namespace shoal {

namespace {

void check_tokens(const Tensor& tokens, int64_t vocab) {
  const int32_t* token = tokens.data<int32_t>();
  for (int64_t row = 0; row < tokens.size(0); ++row) {
    if (token[row] < 0 || token[row] >= vocab) {
      fail(
          "row {} holds token id {}, but the embedding table has ids 0 to {}; the data was tokenized with another "
          "vocabulary: use its tokenizer or set the model's vocabulary to match",
          row, token[row], vocab - 1);
    }
  }
}

bool in_table(int32_t token, const Tensor& table, VocabShard shard) {
  return token >= shard.first_id && token < shard.first_id + table.size(0);
}

// d_table[token] += Σ d_out[row] over the token's rows, ascending. The sum is formed first and added once, so that
// microbatches add up as ranks do.
template <class T, class A>
void add_token_rows(A* into, A* sum, const T* d_out, const int32_t* begin, const int32_t* end, int64_t hidden) {
  const T* first = d_out + *begin * hidden;
#pragma omp simd
  for (int64_t i = 0; i < hidden; ++i) sum[i] = load(first[i]);
  for (const int32_t* row = begin + 1; row < end; ++row) {
    const T* next = d_out + *row * hidden;
#pragma omp simd
    for (int64_t i = 0; i < hidden; ++i) sum[i] += load(next[i]);
  }
#pragma omp simd
  for (int64_t i = 0; i < hidden; ++i) into[i] += sum[i];
}

template <class T>
void backward_rows(const Tensor& d_table, const Tensor& d_out, const int32_t* token, VocabShard shard) {
  using A = Arithmetic<T>;
  const int64_t hidden = d_out.size(1);
  std::vector<int32_t> order;  // rows of this shard, by token
  for (int64_t row = 0; row < d_out.size(0); ++row) {
    if (in_table(token[row], d_table, shard)) order.push_back(static_cast<int32_t>(row));
  }
  const int64_t rows = static_cast<int64_t>(order.size());
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return token[a] < token[b]; });
  std::vector<int64_t> runs;  // where each distinct token begins in `order`, and the end
  for (int64_t i = 0; i < rows; ++i) {
    if (i == 0 || token[order[static_cast<size_t>(i)]] != token[order[static_cast<size_t>(i - 1)]]) runs.push_back(i);
  }
  const int64_t num_runs = static_cast<int64_t>(runs.size());
  runs.push_back(rows);
#pragma omp parallel if (rows * hidden > kMinParallelElements)
  {
    std::vector<A> sum(static_cast<size_t>(hidden));
#pragma omp for schedule(dynamic, 16)
    for (int64_t run = 0; run < num_runs; ++run) {
      const int32_t* begin = order.data() + runs[static_cast<size_t>(run)];
      const int32_t* end = order.data() + runs[static_cast<size_t>(run + 1)];
      A* into = d_table.data<A>() + (token[*begin] - shard.first_id) * hidden;
      add_token_rows(into, sum.data(), d_out.data<T>(), begin, end, hidden);
    }
  }
}

}  // namespace

void embedding_forward_cpu(Tensor out, const Tensor& table, const Tensor& tokens, VocabShard shard) {
  check_tokens(tokens, shard.vocab);
  const int64_t rows = out.size(0), row_bytes = out.size(1) * size_of(out.dtype());
  const int32_t* token = tokens.data<int32_t>();
#pragma omp parallel for schedule(static) if (out.numel() > kMinParallelElements)
  for (int64_t row = 0; row < rows; ++row) {
    std::byte* to = out.raw() + row * row_bytes;
    if (in_table(token[row], table, shard)) {
      std::memcpy(to, table.raw() + (token[row] - shard.first_id) * row_bytes, static_cast<size_t>(row_bytes));
    } else {
      std::memset(to, 0, static_cast<size_t>(row_bytes));
    }
  }
}

void embedding_backward_cpu(Tensor d_table, const Tensor& d_out, const Tensor& tokens, VocabShard shard) {
  check_tokens(tokens, shard.vocab);
  dispatch_floating(d_out.dtype(),
                    [&]<class T>(T) { backward_rows<T>(d_table, d_out, tokens.data<int32_t>(), shard); });
}

}  // namespace shoal
