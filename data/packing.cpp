// data/packing.cpp: from a global sample number to a window of one dataset's tokens.
#include "data/packing.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>

#include "core/base/check.h"
#include "data/permutation.h"

namespace shoal {
namespace {

void check_options(const PackingOptions& options) {
  if (options.seq_len < 1 || options.seq_len > (int64_t{1} << 30)) {
    fail("a sequence of {} tokens is impossible; expected 1 to 2^30 (data.seq_len)", options.seq_len);
  }
  SHOAL_CHECK(options.vocab_size > 0, "vocabulary of {}", options.vocab_size);
}

// Whole sequences of `num_tokens`: neighbours share a token.
int64_t whole_sequences(int64_t num_tokens, int64_t seq_len) { return (num_tokens - 1) / seq_len; }

std::vector<double> blend_weights(const std::vector<TrainingSource>& sources) {
  if (sources.empty()) fail("there is no training data: name at least one source (data.train)");
  const auto weighted = std::count_if(sources.begin(), sources.end(), [](const auto& s) { return s.weight != 0; });
  if (weighted != 0 && weighted != static_cast<int64_t>(sources.size())) {
    fail("{} of {} training sources have a weight; give every source one, or none to draw in proportion to tokens",
         weighted, sources.size());
  }
  std::vector<double> weights;
  for (const auto& source : sources) {
    if (source.weight < 0) fail("the weight of {} is {}; expected 0 or more", source.dataset->prefix(), source.weight);
    weights.push_back(weighted == 0 ? static_cast<double>(source.dataset->num_tokens()) : source.weight);
  }
  return weights;
}

void mark_documents(const TokenDataset& dataset, int64_t first, Sample& sample) {
  const auto available = std::min<int64_t>(static_cast<int64_t>(sample.tokens.size()), dataset.num_tokens() - first);
  const auto window = std::span<const int32_t>(sample.tokens).first(static_cast<size_t>(available));
  for (const int32_t start : dataset.document_starts_in(first, window)) sample.document_starts.push_back(start);
  for (size_t d = 1; d < sample.document_starts.size(); ++d) {
    std::iota(sample.positions.begin() + sample.document_starts[d], sample.positions.end(), 0);
  }
}

// Tokens [first, first + seq_len] of the dataset; what lies behind its end is padding.
void read_window(const TokenDataset& dataset, int64_t first, const PackingOptions& options, Sample& sample) {
  const int64_t available = std::min(options.seq_len + 1, dataset.num_tokens() - first);
  const auto seq_len = static_cast<size_t>(options.seq_len);
  std::vector<int32_t> window(static_cast<size_t>(available));
  dataset.read(first, window, options.vocab_size);
  sample.targets.assign(window.begin() + 1, window.end());
  sample.targets.resize(seq_len, -1);
  sample.tokens = std::move(window);
  sample.tokens.resize(seq_len, 0);
  sample.positions.resize(seq_len);
  std::iota(sample.positions.begin(), sample.positions.end(), 0);
  sample.document_starts.assign(1, 0);
  if (options.mask_documents) mark_documents(dataset, first, sample);
}

}  // namespace

TrainingStream::TrainingStream(std::vector<TrainingSource> sources, const PackingOptions& options, bool shuffle,
                               uint64_t seed)
    : sources_(std::move(sources)), options_(options), shuffle_(shuffle), seed_(seed), blend_(blend_weights(sources_)) {
  check_options(options);
  for (const auto& source : sources_) {
    if (source.dataset->num_tokens() <= options.seq_len) {
      fail(
          "{} is too short to train on: a sequence of {} tokens needs {} (one more is the last target), found {}; "
          "lower data.seq_len or add data",
          source.dataset->prefix(), options.seq_len, options.seq_len + 1, source.dataset->num_tokens());
    }
  }
}

void TrainingStream::read(int64_t index, Sample& sample) const {
  const Blend::Draw draw = blend_.at(index);
  const TokenDataset& dataset = *sources_[static_cast<size_t>(draw.source)].dataset;
  const int64_t per_epoch = whole_sequences(dataset.num_tokens(), options_.seq_len);
  int64_t sequence = draw.count % per_epoch;
  if (shuffle_) {
    const uint64_t stream =
        stream_of(fmt::format("data/shuffle/source{}/epoch{}", draw.source, draw.count / per_epoch));
    sequence = Permutation(seed_, stream, per_epoch)(sequence);
  }
  read_window(dataset, sequence * options_.seq_len, options_, sample);
}

std::vector<SourceFingerprint> TrainingStream::fingerprints() const {
  std::vector<SourceFingerprint> fingerprints;
  for (const auto& source : sources_) fingerprints.push_back(source.dataset->fingerprint());
  return fingerprints;
}

int64_t TrainingStream::samples_per_epoch() const {
  int64_t sum = 0;
  for (const auto& source : sources_) sum += whole_sequences(source.dataset->num_tokens(), options_.seq_len);
  return sum;
}

ValidationStream::ValidationStream(std::vector<std::shared_ptr<const TokenDataset>> sources,
                                   const PackingOptions& options)
    : sources_(std::move(sources)), options_(options), first_sample_{0} {
  check_options(options);
  if (sources_.empty()) fail("there is no validation data: name at least one source (data.validation)");
  for (const auto& source : sources_) {
    if (source->num_tokens() < 2) {
      fail("{} is too short to validate on: expected at least 2 tokens, found {}", source->prefix(),
           source->num_tokens());
    }
    first_sample_.push_back(first_sample_.back() +
                            whole_sequences(source->num_tokens() - 1 + options.seq_len, options.seq_len));
  }
}

void ValidationStream::read(int64_t index, Sample& sample) const {
  SHOAL_CHECK(index >= 0 && index < num_samples(), "sample {} of {}", index, num_samples());
  const auto next = std::upper_bound(first_sample_.begin(), first_sample_.end(), index);
  const auto source = static_cast<size_t>(next - first_sample_.begin()) - 1;
  read_window(*sources_[source], (index - first_sample_[source]) * options_.seq_len, options_, sample);
}

}  // namespace shoal
