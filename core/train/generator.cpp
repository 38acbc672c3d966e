// core/train/generator.cpp: the whole context is computed anew for each token: no cache to keep in step with training.
#include "core/train/generator.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/random.h"
#include "kernels/elementwise.h"

namespace shoal {

int32_t choose_token(const std::vector<float>& logits, int64_t vocab, double temperature, int64_t top_k,
                     double uniform) {
  std::vector<int32_t> ids(static_cast<size_t>(std::min<int64_t>(vocab, static_cast<int64_t>(logits.size()))));
  std::iota(ids.begin(), ids.end(), 0);
  const auto likelier = [&](int32_t a, int32_t b) {
    const float la = logits[static_cast<size_t>(a)];
    const float lb = logits[static_cast<size_t>(b)];
    return la != lb ? la > lb : a < b;
  };
  if (temperature <= 0) return *std::min_element(ids.begin(), ids.end(), likelier);
  const size_t keep = top_k > 0 ? std::min(ids.size(), static_cast<size_t>(top_k)) : ids.size();
  std::partial_sort(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(keep), ids.end(), likelier);
  ids.resize(keep);
  std::vector<double> cumulative;
  double total = 0;
  for (const int32_t id : ids) {
    total += std::exp((logits[static_cast<size_t>(id)] - logits[static_cast<size_t>(ids[0])]) / temperature);
    cumulative.push_back(total);
  }
  const auto at = std::upper_bound(cumulative.begin(), cumulative.end(), uniform * total);
  return ids[std::min(static_cast<size_t>(at - cumulative.begin()), ids.size() - 1)];
}

namespace {

// Contexts are padded behind to a multiple of this, so that GEMMs of the same few sizes repeat; causal attention keeps
// the padding out of sight.
constexpr int64_t kContextStep = 64;

// Logits [rows.size(), vocab] of `rows` of one sequence.
std::vector<float> logits_of(ModelRuntime& runtime, const std::vector<int32_t>& ids, const std::vector<int32_t>& rows) {
  Stream& stream = runtime.stream();
  const int64_t length = static_cast<int64_t>(ids.size());
  std::vector<int32_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), 0);
  Microbatch batch;
  batch.tokens = stream.activation({length}, DType::kI32);
  batch.tokens.copy_from(ids);
  batch.positions = stream.activation({length}, DType::kI32);
  batch.positions.copy_from(positions);
  batch.document_offsets = batch.sequence_offsets = {0, length};
  const Tensor chosen = stream.activation({static_cast<int64_t>(rows.size())}, DType::kI32);
  chosen.copy_from(rows);
  const Tensor logits = run_lane(runtime.lane(), runtime.model().logits(batch, chosen, runtime.lane()));
  for (Router* router : runtime.model().routers()) router->clear_statistics();
  const Tensor narrow = stream.workspace(logits.shape(), DType::kF32);
  cast(narrow, logits, stream);
  return read_to_host<float>(narrow, stream, [&] { return std::vector<float>(static_cast<size_t>(logits.numel())); });
}

std::vector<float> next_logits(ModelRuntime& runtime, std::span<const int32_t> context) {
  const int64_t length = static_cast<int64_t>(context.size());
  const int64_t rows = (length + kContextStep - 1) / kContextStep * kContextStep;
  const int64_t padded = std::max(length, std::min(rows, runtime.options().max_position));
  std::vector<int32_t> tokens(context.begin(), context.end());
  tokens.resize(static_cast<size_t>(padded), context.back());
  return logits_of(runtime, tokens, {static_cast<int32_t>(length - 1)});
}

// Rank 0's choice: ranks on unlike CPUs may round unlike, and what is computed next must be the same everywhere.
int32_t agreed(int32_t id, ModelRuntime& runtime) {
  const Tensor chosen = runtime.stream().workspace({1}, DType::kI32);
  chosen.copy_from<int32_t>({id});
  wait(runtime.mesh().world().broadcast(chosen, 0));
  return read_to_host<int32_t>(chosen, runtime.stream(), [&] { return std::vector<int32_t>{id}; })[0];
}

}  // namespace

std::vector<int32_t> generate_ids(ModelRuntime& runtime, std::vector<int32_t> ids, int64_t vocab, int32_t end_id,
                                  const GenerateConfig& config, uint64_t seed,
                                  const std::function<void(int32_t)>& on_id) {
  SHOAL_CHECK(!ids.empty(), "nothing to continue");
  const CounterRandom random(seed, stream_of("generate"));
  std::vector<int32_t> added;
  for (int64_t i = 0; i < config.max_new_tokens(); ++i) {
    const size_t window = std::min(ids.size(), static_cast<size_t>(runtime.options().max_position));
    const std::vector<float> logits = next_logits(runtime, std::span(ids).last(window));
    const int32_t id = agreed(
        choose_token(logits, vocab, config.temperature(), config.top_k(), random.uniform(static_cast<uint64_t>(i))),
        runtime);
    if (id == end_id) break;
    ids.push_back(id);
    added.push_back(id);
    on_id(id);
  }
  return added;
}

std::vector<float> sequence_logits(ModelRuntime& runtime, std::span<const int32_t> ids) {
  SHOAL_CHECK(static_cast<int64_t>(ids.size()) <= runtime.options().max_position, "{} ids, {} positions", ids.size(),
              runtime.options().max_position);
  std::vector<int32_t> rows(ids.size());
  std::iota(rows.begin(), rows.end(), 0);
  return logits_of(runtime, {ids.begin(), ids.end()}, rows);
}

std::string generate_text(ModelRuntime& runtime, const Tokenizer& tokenizer, const GenerateConfig& config,
                          uint64_t seed, const std::function<void(std::string_view)>& on_text) {
  // Documents are packed end to end, so an end of document is what a start looks like to the model.
  std::vector<int32_t> ids{tokenizer.eod_id()};
  tokenizer.encode(config.prompt(), ids);
  std::string text = config.prompt();
  on_text(text);
  generate_ids(runtime, std::move(ids), tokenizer.vocab_size(), tokenizer.eod_id(), config, seed, [&](int32_t id) {
    const std::string_view piece = tokenizer.bytes_of(id);
    text += piece;
    on_text(piece);
  });
  return text;
}

}  // namespace shoal
