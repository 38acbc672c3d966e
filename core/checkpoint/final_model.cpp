// core/checkpoint/final_model.cpp: a folder that appears whole, or not at all.
#include "core/checkpoint/final_model.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/base/atomic_file.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTensorFile = "model.safetensors";
constexpr const char* kConfigFile = "config.textproto";
constexpr const char* kTokenizerStem = "tokenizer";
constexpr const char* kAsidePrefix = "aside-final-step-";

void rename_path(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail("{}: cannot be renamed to {}: {}", from.string(), to.string(), error.message());
}

// Removes a staging folder unless told that it has become something else.
struct Staging {
  fs::path path;
  bool keep = false;
  ~Staging() {
    std::error_code ignored;
    if (!keep) fs::remove_all(path, ignored);
  }
};

// What a process left that was killed while it wrote.
void remove_remains(const fs::path& run_dir, std::string_view prefix) {
  std::error_code error;
  for (auto entry = fs::directory_iterator(run_dir, error); !error && entry != end(entry); entry.increment(error)) {
    std::error_code ignored;
    if (entry->path().filename().string().starts_with(prefix)) fs::remove_all(entry->path(), ignored);
  }
}

}  // namespace

std::vector<fs::path> final_models_aside(const fs::path& run_dir) {
  std::vector<fs::path> found;
  std::error_code error;
  for (auto entry = fs::directory_iterator(run_dir, error); !error && entry != end(entry); entry.increment(error)) {
    std::error_code ignored;
    const bool has_weights = fs::is_regular_file(entry->path() / kTensorFile, ignored);
    if (has_weights && entry->path().filename().string().starts_with(kAsidePrefix)) found.push_back(entry->path());
  }
  // By step, and of a step by number.
  const auto place = [](const fs::path& path) {
    std::pair<long long, int> numbers{-1, -1};
    const std::string name = path.filename().string().substr(std::string_view(kAsidePrefix).size());
    std::sscanf(name.c_str(), "%lld-%d", &numbers.first, &numbers.second);
    return numbers;
  };
  std::ranges::sort(found, {}, place);
  return found;
}

std::string where_final_went(const fs::path& path) {
  std::error_code error;
  fs::path named = fs::absolute(path, error).lexically_normal();
  if (!named.has_filename()) named = named.parent_path();
  if (!fs::exists(named, error)) return {};
  for (const fs::path& run : {named, named.parent_path()}) {
    const std::vector<fs::path> aside = final_models_aside(run);
    if (aside.empty() || fs::exists(run / "final" / kTensorFile, error)) continue;
    return fmt::format(
        "final/ has no weights: the run went back, and those that it had are in {}; train writes new ones "
        "at its end",
        aside.back().string());
  }
  return {};
}

namespace {

fs::path final_directory(const fs::path& path) {
  for (const fs::path& candidate : {path, path / "final"}) {
    std::error_code ignored;
    if (!fs::is_regular_file(candidate / kTensorFile, ignored)) continue;
    if (!fs::is_regular_file(candidate / kConfigFile, ignored)) {
      const bool foreign = fs::exists(candidate / "config.json", ignored);  // Hugging Face's
      fail("{}: has {} but no {}; it is no complete final model{}", candidate.string(), kTensorFile, kConfigFile,
           foreign
               ? fmt::format(", but one of Hugging Face: read it with `shoal import {} RUN` first", candidate.string())
               : "");
    }
    return candidate;
  }
  if (const std::string moved = where_final_went(path); !moved.empty()) fail("{}: {}", path.string(), moved);
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    fail("{}: does not exist; expected a run folder with final/, or final/ itself", path.string());
  }
  fail("{}: holds no final model (neither {} nor final/{}); train writes it at its end, when train.save_final is true",
       path.string(), kTensorFile, kTensorFile);
}

// What people put beside the model, or put back there, stays beside the next one.
void keep_what_is_not_ours(const fs::path& old, const fs::path& target) {
  std::vector<fs::path> others;
  std::error_code error;
  for (auto entry = fs::directory_iterator(old, error); !error && entry != end(entry); entry.increment(error)) {
    const fs::path name = entry->path().filename();
    if (name != kTensorFile && name != kConfigFile && name.stem() != kTokenizerStem) others.push_back(name);
  }
  for (const fs::path& name : others) rename_path(old / name, target / name);
  if (!others.empty()) sync_directory(target);
}

}  // namespace

void write_final_model(const fs::path& run_dir, const FinalModelParts& parts) {
  write_final_model(run_dir, parts, [&](const fs::path& file, const std::map<std::string, std::string>& metadata) {
    write_safetensors(file, parts.tensors, metadata);
  });
}

void write_final_model(const fs::path& run_dir, const FinalModelParts& parts, const WriteTensors& write_tensors) {
  const fs::path target = run_dir / "final";
  remove_remains(run_dir, ".tmp-final-");
  Staging staging{run_dir / fmt::format(".tmp-final-{}", ::getpid())};
  std::error_code error;
  if (!fs::create_directory(staging.path, error)) {
    const std::string reason = error ? error.message() : "it exists already";
    staging.keep = true;  // not ours
    fail("{}: cannot be created: {}", staging.path.string(), reason);
  }
  std::map<std::string, std::string> metadata = parts.metadata;
  metadata["format"] = "pt";  // several loaders insist on it
  write_tensors(staging.path / kTensorFile, metadata);
  write_text_file(staging.path / kConfigFile, parts.config_text);
  if (!parts.tokenizer_name.empty()) {
    write_text_file(staging.path / (kTokenizerStem + fs::path(parts.tokenizer_name).extension().string()),
                    parts.tokenizer_bytes);
  }
  sync_directory(staging.path);

  const fs::path old = run_dir / fmt::format(".old-final-{}", ::getpid());
  const bool replaces = fs::exists(target, error);
  // Where there is a final/, no older one is needed; where there is none, one that is set aside may be the only one.
  if (replaces) {
    remove_remains(run_dir, ".old-final-");
    rename_path(target, old);
  }
  try {
    rename_path(staging.path, target);
  } catch (const Error&) {
    if (replaces) fs::rename(old, target, error);
    throw;
  }
  staging.keep = true;
  if (replaces) keep_what_is_not_ours(old, target);
  sync_directory(run_dir);
  remove_remains(run_dir, ".old-final-");
}

std::optional<fs::path> set_final_aside_after(const fs::path& run_dir, int64_t step) {
  const fs::path final = run_dir / "final";
  const int64_t final_step = step_of_final_model(final).value_or(-1);
  if (final_step <= step) return std::nullopt;
  std::error_code ignored;
  fs::path aside;
  for (int n = 1; aside.empty() || fs::exists(fs::symlink_status(aside, ignored)); ++n) {
    aside = run_dir / fmt::format("{}{}-{}", kAsidePrefix, final_step, n);
  }
  std::error_code error;
  if (!fs::create_directory(aside, error)) fail("{}: cannot be created: {}", aside.string(), error.message());
  for (auto entry = fs::directory_iterator(final, error); !error && entry != end(entry); entry.increment(error)) {
    if (entry->path().filename() != kTensorFile) fs::copy(entry->path(), aside / entry->path().filename(), error);
    if (error) break;
  }
  if (error) fail("{}: cannot be copied to {}: {}", final.string(), aside.string(), error.message());
  rename_path(final / kTensorFile, aside / kTensorFile);
  for (const fs::path& folder : {aside, final, run_dir}) sync_directory(folder);
  return aside;
}

std::optional<int64_t> step_of_final_model(const fs::path& final) {
  try {
    return std::stoll(FinalModel(final).tensors().metadata().at("step"));
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

FinalModel::FinalModel(const fs::path& path) : directory_(final_directory(path)), tensors_(directory_ / kTensorFile) {}

std::optional<fs::path> FinalModel::tokenizer_path() const {
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory_)) {
    if (entry.path().stem() == kTokenizerStem && entry.is_regular_file()) found.push_back(entry.path());
  }
  if (found.size() > 1) {
    fail("{}: holds several tokenizers ({}, {}); keep one", directory_.string(), found[0].filename().string(),
         found[1].filename().string());
  }
  if (found.empty()) return std::nullopt;
  return found[0];
}

}  // namespace shoal
