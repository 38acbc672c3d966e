// tests/fuzz/parser.cpp: what all fuzzed parsers share.
#include "tests/fuzz/parser.h"

#include <stdlib.h>

#include <cstdio>

#include "core/base/check.h"

namespace shoal::fuzz {

namespace {

namespace fs = std::filesystem;

class ScratchFolder {
 public:
  ScratchFolder() {
    std::error_code ignored;
    const fs::path root = fs::is_directory("/dev/shm", ignored) ? "/dev/shm" : fs::temp_directory_path();
    std::string pattern = root / "shoal-fuzz-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder: " + pattern);
    path_ = pattern;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace

std::vector<Parser>& parsers() {
  static std::vector<Parser> all;
  return all;
}

std::string answer_of(const Parser& parser, std::string_view input) {
  try {
    parser.run(input);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

bool survives(const Parser& parser, std::string_view input) {
  const auto finding = [&](const char* what) {
    std::fprintf(stderr, "%s: a finding: %s\n", parser.name.c_str(), what);
    return false;
  };
  try {
    const std::string answer = answer_of(parser, input);
    // Our own mistake, or a sentence that carries what it should only quote.
    constexpr std::string_view kCheck = "check failed:";  // a fuzzer may come upon the words, and have them quoted
    if (answer.find(kCheck) != answer.npos && input.find(kCheck) == input.npos) return finding(answer.c_str());
    if (answer.size() > 4000 + 2 * input.size()) return finding("a message longer than the file");
  } catch (const std::exception& error) {
    return finding(error.what());
  }
  return true;
}

std::string scratch_file(const std::string& name, std::string_view bytes) {
  static const ScratchFolder folder;
  const fs::path path = folder.path() / name;
  fs::create_directories(path.parent_path());
  make_file(path, std::string(bytes));
  return path;
}

std::string repeated(std::string_view text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

std::string_view take_part(std::string_view& rest) {
  const size_t end = rest.find(kBetween);
  const std::string_view part = rest.substr(0, end);
  rest.remove_prefix(end == rest.npos ? rest.size() : end + kBetween.size());
  return part;
}

}  // namespace shoal::fuzz
