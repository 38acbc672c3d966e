// tests/checkpoint/damage_test.cpp: a checkpoint cut at any length, or with any bit flipped: found, or of no effect.
//
// SHOAL_SOAK_FLIPS: bits flipped, each in a copy of its own (default 2000). SHOAL_SOAK_SEED: which.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <random>

#include "core/checkpoint/manifest_text.h"
#include "tests/checkpoint/checkpoint_states.h"
#include "tests/temporary_folder.h"

using namespace shoal;

namespace fs = std::filesystem;

namespace {

int64_t number_from(const char* variable, int64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::atoll(text) : otherwise;
}

struct Victim {
  TemporaryFolder run{memory_folder()};
  std::vector<StateTensorSpec> specs = small_state();
  fs::path path;
  std::vector<fs::path> files;

  Victim() {
    QuickDisk disk;
    CheckpointWriter writer(CheckpointFolder(run.path()), disk);
    save_state(writer, disk, specs, 7, Split::kShardsThenFlat, 2);
    path = writer.folder().of_step(7);
    for (const auto& entry : fs::directory_iterator(path)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    REQUIRE(files.size() == 4);
    REQUIRE(fault().empty());
  }
  std::string fault() const { return fault_of(path, specs, 7, Split::kFlat, 3); }
  // Found, and said of which checkpoint.
  bool is_found(const std::string& said) const {
    return said.find(path.string()) != std::string::npos && said.find("DIFFERENT") == std::string::npos;
  }
};

}  // namespace

TEST_CASE("a checkpoint's file cut at any length is found", "[damage]") {
  const Victim victim;
  int64_t cuts = 0;
  for (const fs::path& file : victim.files) {
    const std::string whole = bytes_of_file(file);
    for (size_t length = 0; length < whole.size(); ++length) {
      fs::resize_file(file, length);
      const std::string said = victim.fault();
      if (!victim.is_found(said)) FAIL(file << " cut to " << length << ": " << said);
      ++cuts;
      if (length + 1 < whole.size()) make_file(file, whole);
    }
    make_file(file, whole);
  }
  CHECK(victim.fault().empty());
  WARN(cuts << " lengths");
}

TEST_CASE("a checkpoint with any bit flipped is found, or what it loads is the same", "[damage]") {
  const Victim victim;
  std::mt19937_64 random(static_cast<uint64_t>(number_from("SHOAL_SOAK_SEED", 1)));
  int64_t inert = 0;
  const int64_t flips = number_from("SHOAL_SOAK_FLIPS", 2000);
  for (int64_t flip = 0; flip < flips; ++flip) {
    const fs::path& file = victim.files[random() % victim.files.size()];
    const std::string whole = bytes_of_file(file);
    std::string damaged = whole;
    const size_t at = random() % whole.size();
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << random() % 8));
    make_file(file, damaged);
    const std::string said = victim.fault();
    if (!said.empty() && !victim.is_found(said)) FAIL(file << " byte " << at << ": " << said);
    inert += said.empty() ? 1 : 0;
    // What loading does not read, verifying does.
    bool verified = true;
    try {
      NativeCheckpoint(victim.path).verify();
    } catch (const Error&) {
      verified = false;
    }
    if (verified) FAIL(file << " byte " << at << ": verified");
    make_file(file, whole);
  }
  WARN(flips << " flips, " << inert << " of no effect");
}

TEST_CASE("a manifest with any bit flipped and a COMMIT that fits it loads the same bits, or is refused", "[damage]") {
  const Victim victim;
  std::mt19937_64 random(static_cast<uint64_t>(number_from("SHOAL_SOAK_SEED", 1)));
  const std::string whole = bytes_of_file(victim.path / kManifestName);
  int64_t inert = 0;
  const int64_t flips = number_from("SHOAL_SOAK_FLIPS", 2000);
  for (int64_t flip = 0; flip < flips; ++flip) {
    std::string damaged = whole;
    const size_t at = random() % whole.size();
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << random() % 8));
    make_file(victim.path / kManifestName, damaged);
    make_file(victim.path / kCommitName, commit_text(damaged));
    // By whoever reads the whole: a range that is another one overlaps somebody's, or leaves a gap.
    const std::string said = fault_of(victim.path, victim.specs, 7, Split::kFlat, 1);
    if (!said.empty() && !victim.is_found(said) && said != "another step") {
      FAIL("byte " << at << " of\n" << damaged.substr(at < 40 ? 0 : at - 40, 80) << "\n: " << said);
    }
    inert += said.empty() ? 1 : 0;
  }
  WARN(flips << " flips, " << inert << " of no effect");
}
