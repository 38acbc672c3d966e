// core/cli/model_session.cpp: config, tokenizer and weights from one folder, the same on every rank.
#include "core/cli/model_session.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "core/base/out_of_memory.h"
#include "core/config/validate.h"
#include "parallel/gather_values.h"

namespace shoal {

namespace {

// Rank 0 looks: where a run is at work, another rank would find another newest checkpoint.
std::vector<std::filesystem::path> find_places(MpiSession& session, const std::string& path) {
  Allocator host(DeviceKind::kCpu);
  const auto world = session.world(host);
  std::string lines;
  if (world->rank() == 0) {
    for (const std::filesystem::path& place : find_stored_models(path)) lines += place.string() + '\0';
  }
  lines = broadcast_text(*world, host, lines, 0);
  std::vector<std::filesystem::path> places;
  for (size_t begin = 0; begin < lines.size(); begin = lines.find('\0', begin) + 1) {
    places.emplace_back(lines.c_str() + begin);
  }
  return places;
}

LoadedConfig load_stored_config(const StoredModel& stored, const std::vector<std::string>& mesh) {
  LoadedConfig loaded = parse_config(stored.config_text, stored.config_name);
  std::vector<std::string> overrides;
  for (const std::string& axis : mesh) overrides.push_back("parallel." + axis);
  LoadedConfig asked = parse_config("", "--mesh", overrides);
  *loaded.config.mutable_parallel() = asked.config.parallel();
  // Whoever reads a refusal looks for a value where it was given: not in the run's file.
  std::erase_if(loaded.origins, [](const auto& entry) { return entry.first.starts_with("parallel"); });
  for (const auto& [path, origin] : asked.origins) loaded.origins[path] = "--mesh";
  validate(loaded, ConfigUse::kStep);
  return loaded;
}

// The device is this machine's business, not that of the one that trained; so are threads.
RunConfig run_of(const Config& config) {
  RunConfig run = config.run();
  run.clear_device();
  run.clear_threads();
  return run;
}

StoredTokenizer open_fitting_tokenizer(const StoredModel& stored, const Config& config) {
  StoredTokenizer found = open_stored_tokenizer(stored, config.data().tokenizer());
  if (found.tokenizer && found.tokenizer->vocab_size() > config.model().vocab()) {
    fail("{}: the tokenizer has {} tokens, the model only {}: the two files do not belong together",
         stored.tensors->description(), found.tokenizer->vocab_size(), config.model().vocab());
  }
  return found;
}

}  // namespace

ModelSession::ModelSession(MpiSession& session, const std::string& path, const std::vector<std::string>& mesh)
    : places_(find_places(session, path)),
      stored_(open_stored_model(places_.front())),
      loaded_(load_stored_config(stored_, mesh)),
      job_(session, loaded_.config.parallel(), run_of(loaded_.config)),
      tokenizer_(open_fitting_tokenizer(stored_, loaded_.config)),
      runtime_(loaded_.config.model(), job_.mesh(), job_.allocator(),
               {.compute = resolve_compute(loaded_.config.precision(), job_.allocator().device(), job_.world()),
                .train = false,
                .max_position = loaded_.config.data().seq_len(),
                .precision = loaded_.config.precision()}) {
  if (job_.speaks() && tokenizer() != nullptr && !tokenizer_.note.empty()) spdlog::warn("{}", tokenizer_.note);
  const std::filesystem::path& place = places_[load_first_good()];
  const std::filesystem::path given(path);
  if (!job_.speaks() || place == given || place == given / "final") return;
  std::error_code ignored;
  const char* why = "there is no final/";
  if (std::filesystem::exists(given / "final", ignored)) {
    why = places_.back() == given / "final" ? "final/ is of an earlier step" : "final/ cannot be used";
  }
  spdlog::info("{}: {}; this is the newest good checkpoint, {}", path, why, place.string());
}

// Why it cannot be had; empty: it is loaded.
std::string ModelSession::try_to_load(size_t place) {
  try {
    if (place > 0) stored_ = open_stored_model(places_[place]);
    runtime_.load(*stored_.tensors, stored_.config_name);
    return {};
  } catch (const OutOfMemory&) {  // says nothing about what is stored there
    throw;
  } catch (const Error& error) {
    if (place + 1 == places_.size()) throw;
    return error.what();
  }
}

// Which it was.
size_t ModelSession::load_first_good() {
  for (size_t place = 0;; ++place) {
    const std::string mine = try_to_load(place);
    if (place + 1 == places_.size()) return place;
    const std::vector<std::string> all = gather_texts(job_.world(), job_.allocator(), mine);
    const std::vector<int64_t> ok = gather_numbers(job_.world(), job_.allocator(), mine.empty() ? 1 : 0);
    const auto failed = std::ranges::find(ok, 0);
    if (failed == ok.end()) return place;
    if (!job_.speaks()) continue;
    spdlog::warn("{} cannot be read, and the checkpoint before it is taken: {}", places_[place].string(),
                 all[static_cast<size_t>(failed - ok.begin())]);
  }
}

}  // namespace shoal
