// tests/kernels/attention_cudnn_runs_test.cpp: how a call of attention is cut for cuDNN; no GPU is asked.
#include "kernels/attention_cudnn_runs.h"

#include <catch2/catch.hpp>

#include <numeric>

namespace shoal {
namespace {

using Counts = std::vector<int64_t>;

// Documents of each run.
Counts runs(const AttentionDocuments& documents, const AttentionRunSize& size) {
  Counts counts;
  for (int64_t done = 0; done < documents.count(); done += counts.back()) {
    counts.push_back(attention_run_documents(documents, size, done));
  }
  return counts;
}

TEST_CASE("documents that are equal and a whole number of 128 tokens are regular; empty ones do not count") {
  const AttentionDocuments equal = attention_documents({0, 0, 384, 768, 768});
  CHECK(equal.layout == AttentionLayout::kRegular);
  CHECK(equal.length == 384);
  CHECK(equal.begins == std::vector<int64_t>{0, 384, 768});
  CHECK(attention_documents({0, 1024}).layout == AttentionLayout::kRegular);
  CHECK(attention_documents({0, 384}).layout == AttentionLayout::kPacked);  // one that grows has few graphs
  const AttentionDocuments odd = attention_documents({0, 200, 400});
  CHECK(odd.layout == AttentionLayout::kPacked);
  CHECK(odd.length == 256);
  const AttentionDocuments mixed = attention_documents({0, 1, 1, 129});
  CHECK(mixed.layout == AttentionLayout::kPacked);
  CHECK(mixed.length == 128);
  CHECK(mixed.begins == std::vector<int64_t>{0, 1, 129});
}

TEST_CASE("packed documents are computed as many at once as a power of two, and all of them") {
  const AttentionShape shape{.heads = 4, .kv_heads = 2, .qk_dim = 64, .v_dim = 64, .scale = 1};
  std::vector<int64_t> offsets{0};
  for (int64_t d = 0; d < 13; ++d) offsets.push_back(offsets.back() + 7 * d);
  const AttentionDocuments documents = attention_documents(offsets);
  const AttentionRunSize size = attention_run_size(AttentionPass::kBackward, shape, documents);
  CHECK(size.kv_heads == 2);
  CHECK(runs(documents, size) == Counts{8, 4});
}

TEST_CASE("backward's runs keep the square of the length within bounds") {
  const AttentionShape shape{.heads = 64, .kv_heads = 8, .qk_dim = 128, .v_dim = 128, .scale = 1};
  // 2 * 64 * 4096^2 bytes are 2 GiB: half of the heads at once.
  const AttentionDocuments two = attention_documents({0, 4096, 8192});
  const AttentionRunSize halves = attention_run_size(AttentionPass::kBackward, shape, two);
  CHECK(halves.documents == 1);
  CHECK(halves.kv_heads == 4);
  CHECK(runs(two, halves) == Counts{1, 1});
  CHECK(attention_run_size(AttentionPass::kForward, shape, two).documents == 2);
  // 2 * 64 * 1024^2 bytes are 128 MiB: 8 documents of 12 at once would not divide them.
  std::vector<int64_t> offsets(13);
  std::iota(offsets.begin(), offsets.end(), 0);
  for (int64_t& offset : offsets) offset *= 1024;
  const AttentionDocuments twelve = attention_documents(offsets);
  CHECK(runs(twelve, attention_run_size(AttentionPass::kBackward, shape, twelve)) == Counts{6, 6});
  // 16 GiB for one kv head.
  const AttentionDocuments longest = attention_documents({0, 32768});
  CHECK(attention_run_size(AttentionPass::kBackward, shape, longest).documents == 0);
  CHECK(attention_run_size(AttentionPass::kForward, shape, longest).documents == 1);
}

}  // namespace
}  // namespace shoal
