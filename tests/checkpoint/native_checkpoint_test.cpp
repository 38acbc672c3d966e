// tests/checkpoint/native_checkpoint_test.cpp: any shard out of any layout, and every way a checkpoint can be broken.
#include "core/checkpoint/native_checkpoint.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <utility>

#include "core/checkpoint/compare_checkpoints.h"
#include "core/checkpoint/manifest_text.h"
#include "core/checkpoint/tensor_checks.h"
#include "tests/checkpoint/checkpoint_states.h"
#include "tests/rank_check.h"
#include "tests/temporary_folder.h"

using namespace shoal;

namespace fs = std::filesystem;

namespace {

// RUN/checkpoints/step-<step>, saved by so many ranks.
fs::path save(const TemporaryFolder& run, int64_t step, Split split, int ranks,
              const std::vector<StateTensorSpec>& specs = small_state()) {
  QuickDisk files;
  CheckpointWriter writer(CheckpointFolder(run.path()), files);
  save_state(writer, files, specs, step, split, ranks);
  return writer.folder().of_step(step);
}

std::string open_error(const fs::path& checkpoint) {
  return error_of([&] { const NativeCheckpoint opened(checkpoint); });
}

bool contains(const std::string& text, const std::string& words) { return text.find(words) != std::string::npos; }

// Writes MANIFEST anew, and a COMMIT that fits.
void replace_manifest(const fs::path& checkpoint, const Manifest& manifest) {
  const std::string text = manifest_text(manifest);
  make_file(checkpoint / kManifestName, text);
  make_file(checkpoint / kCommitName, commit_text(text));
}

}  // namespace

TEST_CASE("what one layout saved, every other reads, bit for bit") {
  for (const Split saved : kAllSplits) {
    for (const int ranks : {1, 2, 3, 4}) {
      const TemporaryFolder run;
      const fs::path checkpoint = save(run, 5, saved, ranks);
      for (const Split read : kAllSplits) {
        for (const int readers : {1, 2, 3, 4}) {
          INFO("saved as " << static_cast<int>(saved) << " by " << ranks << ", read as " << static_cast<int>(read)
                           << " by " << readers);
          CHECK(fault_of(checkpoint, small_state(), 5, read, readers).empty());
        }
      }
      CHECK(NativeCheckpoint(checkpoint).verify() > 0);
    }
  }
}

TEST_CASE("moments change between f32 and bf16 when they are read, other dtypes do not change") {
  const TemporaryFolder run;
  const NativeCheckpoint checkpoint(save(run, 1, Split::kColumns, 2));
  const auto read_as = [&](const char* name, DType dtype) {
    StatePiece piece{.name = name, .sharding = whole_tensor({6, 8}), .begin = 0, .values = {}};
    piece.values = Tensor::empty({48}, dtype, test_host(), MemoryKind::kWorkspace);
    checkpoint.read(piece);
    return piece.values;
  };
  const Tensor narrow = read_as("layers.0.q/m", DType::kBF16), widened = read_as("layers.0.q/m", DType::kF32);
  const Tensor wide = read_as("layers.0.q/v", DType::kF32), narrowed = read_as("layers.0.q/v", DType::kBF16);
  for (int64_t i = 0; i < 48; ++i) {
    const float once = static_cast<float>(narrow.data<bfloat16>()[i]);
    CHECK(std::memcmp(&widened.data<float>()[i], &once, 4) == 0);
    const bfloat16 rounded(wide.data<float>()[i]);
    CHECK(std::memcmp(&narrowed.data<bfloat16>()[i], &rounded, 2) == 0);
  }
  CHECK(contains(error_of([&] { read_as("layers.0.q", DType::kF64); }), "expected dtype F64, found F32"));
}

TEST_CASE("another model's tensors are refused by name") {
  const TemporaryFolder run;
  const NativeCheckpoint checkpoint(save(run, 1, Split::kFlat, 2));
  const auto error = [&](const char* name, const Shape& shape) {
    const Tensor values = Tensor::empty({shape.numel()}, DType::kF32, test_host(), MemoryKind::kWorkspace);
    return error_of(
        [&] { checkpoint.read({.name = name, .sharding = whole_tensor(shape), .begin = 0, .values = values}); });
  };
  CHECK(contains(error("layers.9.q", {6, 8}), "has no tensor \"layers.9.q\"; it is of another model"));
  CHECK(contains(error("layers.0.q", {8, 6}), "expected shape [8, 6], found [6, 8]"));
  CHECK(error("layers.0.q", {6, 8}) == "no error");
  CHECK(checkpoint.find_or_null("nothing") == nullptr);
}

TEST_CASE("a checkpoint with a file missing, cut, grown, or replaced by a link or a folder does not open") {
  for (const char* name : {"rank-00001.safetensors", kManifestName, kCommitName}) {
    const TemporaryFolder run;
    const fs::path checkpoint = save(run, 5, Split::kRows, 2), file = checkpoint / name;
    INFO(name);
    const std::string bytes = bytes_of_file(file);
    for (const std::string& damaged : {bytes.substr(0, bytes.size() - 1), bytes + "\n", std::string()}) {
      make_file(file, damaged);
      CHECK(contains(open_error(checkpoint), checkpoint.string()));
    }
    fs::remove(file);
    CHECK(contains(open_error(checkpoint), name));
    make_file(run / "elsewhere", bytes);
    fs::create_symlink(run / "elsewhere", file);
    CHECK(contains(open_error(checkpoint), "is no regular file"));
    fs::remove(file);
    fs::create_directory(file);
    CHECK(contains(open_error(checkpoint), "is no regular file"));
    fs::remove(file);
    make_file(file, bytes);
    CHECK(open_error(checkpoint) == "no error");
  }
}

TEST_CASE("a link to a checkpoint, a file, and nothing at all are no checkpoints") {
  const TemporaryFolder run;
  const fs::path checkpoint = save(run, 5, Split::kFlat, 1);
  fs::create_directory_symlink(checkpoint, run / "link");
  make_file(run / "file", "text");
  for (const char* name : {"link", "file", "nothing"}) CHECK(contains(open_error(run / name), "is no folder"));
}

TEST_CASE("COMMIT of another manifest does not open, and says both checksums") {
  const TemporaryFolder run;
  const fs::path five = save(run, 5, Split::kFlat, 1), six = save(run, 6, Split::kFlat, 1);
  fs::copy_file(six / kCommitName, five / kCommitName, fs::copy_options::overwrite_existing);
  const std::string error = open_error(five);
  CHECK(contains(error, "does not fit COMMIT"));
  const std::string commit = bytes_of_file(six / kCommitName);
  CHECK(contains(error, commit.substr(0, commit.size() - 1)));
  for (const std::string& text : {std::string(), std::string(5000, 'x'), commit + commit, std::string(9, '\0')}) {
    make_file(six / kCommitName, text);
    CHECK(open_error(six) != "no error");
  }
}

TEST_CASE("files of the right size with other contents are found when they are read, by tensor and by file") {
  const TemporaryFolder run;
  const auto specs = small_state();
  const fs::path five = save(run, 5, Split::kFlat, 2), six = save(run, 6, Split::kFlat, 2);
  const auto put = [](const fs::path& from, const fs::path& to) {
    fs::copy_file(from, to, fs::copy_options::overwrite_existing);
  };
  SECTION("a stale shard, of another step") {
    put(five / "rank-00001.safetensors", six / "rank-00001.safetensors");
    CHECK(open_error(six) == "no error");
    CHECK(contains(fault_of(six, specs, 6), "the file is damaged"));
  }
  SECTION("shards that changed places") {
    put(six / "rank-00000.safetensors", run / "kept");
    put(six / "rank-00001.safetensors", six / "rank-00000.safetensors");
    put(run / "kept", six / "rank-00001.safetensors");
    // Their sizes may differ, which the first look finds.
    const std::string error = open_error(six) + fault_of(six, specs, 6);
    CHECK(contains(error, "rank-0000"));
  }
  CHECK(contains(error_of([&] { NativeCheckpoint(six).verify(); }), "rank-0000"));
  CHECK(fault_of(five, specs, 5).empty());
}

TEST_CASE("a piece that is damaged stops only those who need it") {
  const TemporaryFolder run;
  const std::vector<StateTensorSpec> specs{{"a", {100}}, {"b", {100}}};
  const fs::path checkpoint = save(run, 5, Split::kRows, 2, specs);
  std::string bytes = bytes_of_file(checkpoint / "rank-00001.safetensors");
  bytes.back() ^= 1;  // the last element of b
  make_file(checkpoint / "rank-00001.safetensors", bytes);
  CHECK(fault_of(checkpoint, {specs[0]}, 5).empty());
  const std::string error = fault_of(checkpoint, specs, 5);
  CHECK(contains(error, "rank-00001.safetensors"));
  CHECK(contains(error, "\"b\""));
  CHECK(contains(error, "bytes 200 to 400"));
  CHECK(contains(error_of([&] { NativeCheckpoint(checkpoint).verify(); }), "the file is damaged"));
}

TEST_CASE("verifying names the tensors that are damaged and where they lie, or the header") {
  const TemporaryFolder run;
  const std::vector<StateTensorSpec> specs{{"a", {100}}, {"b", {100}}, {"c", {100}}};
  const fs::path checkpoint = save(run, 5, Split::kRows, 2, specs), file = checkpoint / "rank-00001.safetensors";
  const std::string whole = bytes_of_file(file);
  const size_t data = whole.size() - 600;
  const auto said_after = [&](std::initializer_list<size_t> places) {
    std::string bytes = whole;
    for (const size_t at : places) bytes[at] ^= 1;
    make_file(file, bytes);
    return error_of([&] { NativeCheckpoint(checkpoint).verify(); });
  };
  const std::string one = said_after({data + 250});
  CHECK(contains(one, "rank-00001.safetensors"));
  CHECK(contains(one, fmt::format("the file is damaged: tensor \"b\" (bytes 200 to 400), counted from where the data "
                                  "begin, at byte {}",
                                  data)));
  CHECK(contains(said_after({data, data + 599}),
                 "damaged: tensor \"a\" (bytes 0 to 200), tensor \"c\" (bytes 400 to 600), counted"));
  // Padding behind the header's JSON; and what makes it JSON.
  CHECK(contains(said_after({data - 1}), "the file is damaged: "));
  CHECK(contains(said_after({8}), "the file is damaged: its header, by which tensors are found: "));
}

TEST_CASE("of a checkpoint that many ranks open, each looks at its share of the files, and at what it reads") {
  class Looks : public QuickDisk {
   public:
    std::vector<std::string> names;
    FileStatus status(const Path& path) override {
      if (path.extension() == ".safetensors") names.push_back(path.filename());
      return QuickDisk::status(path);
    }
  };
  const TemporaryFolder run;
  const std::vector<StateTensorSpec> specs{{"a", {100}}};
  const fs::path checkpoint = save(run, 5, Split::kFlat, 4, specs);
  const auto looked_at = [&](int rank, int ranks) {
    Looks files;
    const NativeCheckpoint opened(checkpoint, files, {.rank = rank, .ranks = ranks});
    return files.names;
  };
  using Names = std::vector<std::string>;
  CHECK(looked_at(0, 1).size() == 4);
  CHECK(looked_at(1, 2) == Names{"rank-00001.safetensors", "rank-00003.safetensors"});
  CHECK(looked_at(3, 4) == Names{"rank-00003.safetensors"});
  CHECK(looked_at(7, 8).empty());
  const auto read_third = [&](int rank) {
    return error_of([&] {
      const NativeCheckpoint opened(checkpoint, disk(), {.rank = rank, .ranks = 4});
      const Tensor values = Tensor::empty({25}, DType::kF32, test_host(), MemoryKind::kWorkspace);
      opened.read({.name = "a", .sharding = whole_tensor({100}), .begin = 50, .values = values});
    });
  };
  CHECK(read_third(0) == "no error");
  fs::resize_file(checkpoint / "rank-00002.safetensors", 100);
  for (const int rank : {0, 2}) CHECK(contains(read_third(rank), "rank-00002.safetensors: has 100 bytes, expected"));
  CHECK(
      contains(error_of([&] { NativeCheckpoint(checkpoint, disk(), {.rank = 0, .ranks = 4}).verify(); }), "expected"));
  fs::remove(checkpoint / "rank-00002.safetensors");
  for (const int rank : {0, 2}) CHECK(contains(read_third(rank), "rank-00002.safetensors"));
}

TEST_CASE("two checkpoints of which one has a tensor of zeros differ by so much, and by no ratio") {
  const TemporaryFolder run;
  QuickDisk files;
  const auto save_values = [&](const fs::path& at, float value) {
    CheckpointWriter writer(CheckpointFolder(at), files);
    const fs::path staging = writer.begin(5);
    StatePiece piece{.name = "a", .sharding = whole_tensor({4}), .begin = 0, .values = {}};
    piece.values = Tensor::zeros({4}, DType::kF32, test_host(), MemoryKind::kWorkspace);
    piece.values.data<float>()[1] = value;
    Manifest manifest = head_of(5);
    ManifestMerger(manifest).add(write_state_file(files, staging, 0, {piece}));
    writer.commit(staging, manifest);
    return writer.folder().of_step(5);
  };
  for (const char* name : {"a", "b", "c"}) fs::create_directory(run / name);
  const NativeCheckpoint zero(save_values(run / "a", 0)), minus(save_values(run / "b", -0.0f)),
      two(save_values(run / "c", 2));
  const auto difference = [](const NativeCheckpoint& a, const NativeCheckpoint& b) {
    const std::vector<TensorDifference> found = compare_checkpoints(a, b);
    REQUIRE(found.size() == 1);
    return found[0];
  };
  for (const NativeCheckpoint* other : {&minus, &two}) {
    const TensorDifference found = difference(zero, *other);
    CHECK(found.a_is_zero);
    CHECK(std::isfinite(found.relative));
    CHECK(found.differing == 1);
    CHECK(found.largest == (other == &two ? 2 : 0));
  }
  CHECK_FALSE(difference(two, zero).a_is_zero);
  CHECK(difference(two, zero).relative == 1);
}

TEST_CASE("a tensor that is looked at in several pieces is read as it was, and a value that is no number is named") {
  constexpr int64_t kAtOnce = TensorChecks::kBytesAtOnce / 4, kCount = 2 * kAtOnce + 17;
  const TemporaryFolder run;
  QuickDisk files;
  CheckpointWriter writer(CheckpointFolder(run.path()), files);
  StatePiece piece{.name = "a", .sharding = whole_tensor({kCount}), .begin = 0, .values = {}};
  piece.values = Tensor::zeros({kCount}, DType::kF32, test_host(), MemoryKind::kWorkspace);
  float* values = piece.values.data<float>();
  for (int64_t i = 0; i < kCount; ++i) values[i] = static_cast<float>(i);
  const fs::path staging = writer.begin(5);
  Manifest manifest = head_of(5);
  ManifestMerger(manifest).add(write_state_file(files, staging, 0, {piece}));
  writer.commit(staging, manifest);
  CHECK(manifest.tensor(0).piece(0).xxh3() == xxh3_64(values, piece.values.bytes()));
  const NativeCheckpoint opened(writer.folder().of_step(5));
  opened.verify();
  StatePiece back = piece;
  back.values = Tensor::zeros({kCount}, DType::kF32, test_host(), MemoryKind::kWorkspace);
  opened.read(back);
  CHECK(back.values.to_vector<float>() == piece.values.to_vector<float>());
  for (const int64_t bad : {int64_t{0}, kAtOnce - 1, kAtOnce, 2 * kAtOnce, kCount - 1}) {
    const float good = std::exchange(values[bad], std::numeric_limits<float>::infinity());
    const fs::path at = run / fmt::format("bad-{}", bad);
    fs::create_directory(at);
    CHECK(error_of([&] { write_state_file(files, at, 0, {piece}); }) ==
          fmt::format("tensor \"a\": element [{}] is inf", bad));
    values[bad] = good;
  }
}

TEST_CASE("an empty COMMIT is called that") {
  const TemporaryFolder run;
  const fs::path checkpoint = save(run, 5, Split::kFlat, 1);
  make_file(checkpoint / kCommitName, "");
  CHECK(contains(open_error(checkpoint), "step-5/COMMIT: is empty"));
}

TEST_CASE("a checkpoint whose manifest could not be read back is not made") {
  const TemporaryFolder run;
  QuickDisk files;
  CheckpointWriter writer(CheckpointFolder(run.path()), files);
  const fs::path staging = writer.begin(5);
  Manifest manifest = write_ranks(files, staging, small_state(), 5, Split::kFlat, 1);
  manifest.mutable_progress()->add_recent_loss(std::numeric_limits<double>::quiet_NaN());
  CHECK(contains(error_of([&] { writer.commit(staging, manifest); }), "recent_loss nan: expected a finite number"));
  CHECK(writer.folder().steps().empty());
  CHECK_FALSE(fs::exists(staging / kCommitName));
}

TEST_CASE("pieces that overlap and leave a gap of the same size are not taken for whole") {
  const TemporaryFolder run;
  const std::vector<StateTensorSpec> specs{{"a", {8}}};
  const fs::path checkpoint = save(run, 5, Split::kFlat, 2, specs);
  Manifest manifest = NativeCheckpoint(checkpoint).manifest();
  manifest.mutable_tensor(0)->mutable_piece(1)->set_begin(2);  // [0, 4) and [2, 6)
  replace_manifest(checkpoint, manifest);
  CHECK(contains(fault_of(checkpoint, specs, 5), "overlap or leave a gap at element"));
  manifest.mutable_tensor(0)->mutable_piece(1)->set_begin(0);
  replace_manifest(checkpoint, manifest);
  CHECK(contains(fault_of(checkpoint, specs, 5), "overlap or leave a gap at element"));
}

TEST_CASE("a manifest that says another thing than the files is refused at the file") {
  const TemporaryFolder run;
  const std::vector<StateTensorSpec> specs{{"a", {8}}, {"b", {6}}};
  const fs::path checkpoint = save(run, 5, Split::kFlat, 2, specs);
  Manifest manifest = NativeCheckpoint(checkpoint).manifest();
  StateTensor& a = *manifest.mutable_tensor(0);
  SECTION("pieces cut elsewhere") {
    a.mutable_piece(0)->set_count(3);
    a.mutable_piece(1)->set_begin(3);
    a.mutable_piece(1)->set_count(5);
    replace_manifest(checkpoint, manifest);
    CHECK(contains(fault_of(checkpoint, specs, 5), "the file is of another checkpoint"));
  }
  SECTION("another file") {
    a.mutable_piece(0)->set_file(1);
    a.mutable_piece(1)->set_file(0);
    replace_manifest(checkpoint, manifest);
    CHECK(contains(fault_of(checkpoint, specs, 5), "the file is damaged"));
  }
  SECTION("a name that no file has") {
    a.set_name("c");
    replace_manifest(checkpoint, manifest);
    CHECK(contains(fault_of(checkpoint, {{"c", {8}}}, 5), "\"c\""));
  }
  SECTION("a dtype of the same size") {
    a.set_dtype("I32");
    replace_manifest(checkpoint, manifest);
    CHECK(contains(fault_of(checkpoint, specs, 5), "expected dtype F32, found I32"));
  }
}

TEST_CASE("weights of a checkpoint: parameters and biases, no moments, in any pieces") {
  const TemporaryFolder run;
  const auto specs = small_state();
  const auto source = weights_of(std::make_shared<NativeCheckpoint>(save(run, 5, Split::kBoth, 4)));
  CHECK(source->tensors().size() == 5);
  CHECK(source->tensors().count("layers.0.q/m") == 0);
  const std::vector<std::byte> whole = bytes_at(specs[3], 5);
  for (const auto& [begin, count] : {std::pair<int64_t, int64_t>{0, 240}, {7, 100}, {239, 1}, {0, 0}}) {
    const Tensor out = Tensor::empty({count}, DType::kF32, test_host(), MemoryKind::kWorkspace);
    source->read("layers.1.experts", begin, out);
    CHECK((count == 0 || std::memcmp(out.raw(), whole.data() + 4 * begin, static_cast<size_t>(4 * count)) == 0));
  }
  const Tensor out = Tensor::empty({1}, DType::kF32, test_host(), MemoryKind::kWorkspace);
  CHECK(contains(error_of([&] { source->read("nothing", 0, out); }), "has no tensor \"nothing\""));
}

TEST_CASE("a tensor that is read range after range is read from disk once, and verified") {
  for (const Split split : kAllSplits) {
    const TemporaryFolder run;
    const auto specs = small_state();
    const fs::path place = save(run, 5, split, 3);
    const auto source = weights_of(std::make_shared<NativeCheckpoint>(place));
    const std::vector<std::byte> whole = bytes_at(specs[3], 5);
    const auto read = [&](int64_t begin, int64_t count) {
      const Tensor out = Tensor::empty({count}, DType::kF32, test_host(), MemoryKind::kWorkspace);
      source->read(specs[3].name, begin, out);
      CHECK(std::memcmp(out.raw(), whole.data() + 4 * begin, static_cast<size_t>(4 * count)) == 0);
    };
    read(0, 20);  // two rows
    // From now on whatever is read from these files anew is refused.
    for (const fs::directory_entry& entry : fs::directory_iterator(place)) {
      if (entry.path().extension() != ".safetensors") continue;
      std::string bytes = bytes_of_file(entry.path());
      uint64_t header_bytes = 0;
      std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
      for (size_t i = 8 + header_bytes; i < bytes.size(); ++i) bytes[i] ^= 1;
      std::ofstream(entry.path(), std::ios::binary | std::ios::in) << bytes;
    }
    const bool all_touched = split == Split::kFirstRankOnly || split == Split::kColumns || split == Split::kSections;
    if (all_touched) {
      for (int64_t begin = 20; begin < 240; begin += 20) read(begin, 20);
    } else {
      CHECK(contains(error_of([&] { read(239, 1); }), "the file is damaged"));
    }
    CHECK_THROWS_AS(read(0, 240), Error);  // all of it at once is not kept
  }
}
