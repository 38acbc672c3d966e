// tests/checkpoint/manifest_text_test.cpp: every rule of a manifest, broken once, is named in the refusal.
#include "core/checkpoint/manifest_text.h"

#include <catch2/catch.hpp>

#include <limits>

#include "core/checkpoint/data_record.h"
#include "core/config/compare.h"
#include "tests/checkpoint/checkpoint_states.h"
#include "tests/rank_check.h"

using namespace shoal;

namespace {

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

// Two ranks' halves of "a", [4, 6], split by columns.
Manifest sound() {
  Manifest manifest = head_of(7);
  for (const char* name : {"rank-00000.safetensors", "rank-00001.safetensors"}) {
    StoredFile& file = *manifest.add_file();
    file.set_name(name);
    file.set_bytes(200);
    file.set_xxh3_128(std::string(32, '0'));
  }
  StateTensor& tensor = *manifest.add_tensor();
  tensor.set_name("a");
  tensor.set_dtype("F32");
  tensor.add_shape(4);
  tensor.add_shape(6);
  for (int rank = 0; rank < 2; ++rank) {
    Piece& piece = *tensor.add_piece();
    piece.set_file(rank);
    piece.set_begin(0);
    piece.set_count(12);
    piece.set_xxh3(1);
    for (const auto& range : {std::pair{0, 4}, {3 * rank, 3}}) {
      HeldDim& dim = *piece.add_dim();
      dim.add_range(range.first);
      dim.add_range(range.second);
    }
  }
  return manifest;
}

std::string error_in(const std::string& text) {
  return error_of([&] { parse_manifest(text, "MANIFEST"); });
}

// What is said of the sound manifest after `change`.
template <class Change>
std::string refusal(Change change) {
  Manifest manifest = sound();
  change(manifest, *manifest.mutable_tensor(0), *manifest.mutable_tensor(0)->mutable_piece(0));
  return error_in(manifest_text(manifest));
}

#define CHECK_REFUSED(words, change)                                                                               \
  do {                                                                                                             \
    const std::string said = refusal(                                                                              \
        []([[maybe_unused]] Manifest& m, [[maybe_unused]] StateTensor& t, [[maybe_unused]] Piece& p) { change; }); \
    INFO(said);                                                                                                    \
    CHECK(said.find(words) != std::string::npos);                                                                  \
    CHECK(said.size() < 500);                                                                                      \
  } while (false)

}  // namespace

TEST_CASE("a manifest comes back as it was written") {
  const Manifest manifest = sound();
  const Manifest read = parse_manifest(manifest_text(manifest), "MANIFEST");
  CHECK(read.SerializeAsString() == manifest.SerializeAsString());
  const Sharding second = sharding_of(read.tensor(0), read.tensor(0).piece(1));
  CHECK(second.dims[1].held == std::vector<IndexRange>{{3, 3}});
  CHECK(second.local_shape() == Shape{4, 3});
  CHECK(numel_of(read.tensor(0)) == 24);
}

TEST_CASE("COMMIT holds the manifest's checksum and size") {
  CHECK(commit_text("") == "xxh3_128 99aa06d3014798d86001c324468d497f bytes 0\n");
  CHECK(commit_text("a") != commit_text("b"));
}

TEST_CASE("text that is no manifest is refused with the place") {
  CHECK(error_in("format: 1 nonsense: 3").find("line 1, column") != std::string::npos);
  CHECK(error_in("format: 1\ntensor { name: 3 }").find("line 2") != std::string::npos);
  CHECK(error_in("format: 99999999999999999999").find("line 1") != std::string::npos);
  CHECK(error_in("format: 1 format: 1").find("MANIFEST") != std::string::npos);
  std::string deep = "format: 1 ";
  for (int i = 0; i < 100'000; ++i) deep += "unknown {";
  CHECK(error_in(deep) != "no error");
  CHECK(error_in(std::string(1 << 20, '{')) != "no error");
  CHECK(error_in(std::string("format: 1\0 x: 3", 15)) != "no error");
}

TEST_CASE("another format is refused") {
  CHECK(error_in("").find("format 0, and this program reads format 1") != std::string::npos);
  CHECK_REFUSED("format 2, and this program reads format 1", m.set_format(2));
}

TEST_CASE("progress is from 0 and no run's worth of centuries") {
  CHECK_REFUSED("step is -1", m.mutable_progress()->set_step(-1));
  CHECK_REFUSED("step is 9223372036854775807", m.mutable_progress()->set_step(kHuge));
  CHECK_REFUSED("sequences is -1", m.mutable_progress()->set_sequences(-1));
  CHECK_REFUSED("tokens is -5", m.mutable_progress()->set_tokens(-5));
  CHECK_REFUSED("updates is", m.mutable_progress()->set_updates(kHuge));
  CHECK_REFUSED("skipped_sequences is", m.mutable_progress()->set_skipped_sequences(kHuge));
  CHECK_REFUSED("skipped_steps is -1", m.mutable_progress()->set_skipped_steps(-1));
  CHECK_REFUSED("roll_backs is -1", m.mutable_progress()->set_roll_backs(-1));
  CHECK_REFUSED("recent_loss nan", m.mutable_progress()->add_recent_loss(std::nan("")));
  CHECK_REFUSED("recent_loss inf", m.mutable_progress()->add_recent_loss(HUGE_VAL));
}

TEST_CASE("file names stay inside the folder") {
  for (const char* name : {"", ".", "..", ".hidden", "a/b", "/etc/passwd", "../rank-00000.safetensors", "a b", "a\nb",
                           "a\\b", "caf\xC3\xA9", "a:b"}) {
    Manifest manifest = sound();
    manifest.mutable_file(0)->set_name(name);
    INFO(name);
    CHECK(error_in(manifest_text(manifest)).find("expected letters, digits, '.', '_' and '-'") != std::string::npos);
  }
  CHECK_REFUSED("expected letters", m.mutable_file(0)->set_name(std::string(256, 'a')));
  CHECK_REFUSED("expected letters", m.mutable_file(0)->set_name(std::string("a\0b", 3)));
  CHECK_REFUSED("is listed twice", m.mutable_file(1)->set_name("rank-00000.safetensors"));
  CHECK_REFUSED("has -1 bytes", m.mutable_file(0)->set_bytes(-1));
}

TEST_CASE("what the data are known by comes back, and is checked") {
  const DataFingerprint data{
      .train = {{.tokens = 5, .documents = 2, .shards = std::nullopt, .xxh3_128 = std::string(32, 'a')},
                {.tokens = 0, .documents = std::nullopt, .shards = 0, .xxh3_128 = std::string(32, 'b')}},
      .tokenizer = "bpe-0"};
  Manifest manifest = sound();
  CHECK_FALSE(parse_manifest(manifest_text(manifest), "MANIFEST").has_data());
  *manifest.mutable_data() = to_record(data);
  const Manifest read = parse_manifest(manifest_text(manifest), "MANIFEST");
  const DataFingerprint back = from_record(read.data());
  CHECK(compare_data(data, back, {}).empty());
  REQUIRE(back.train.size() == 2);
  CHECK(back.train[0].documents == 2);
  CHECK_FALSE(back.train[0].shards.has_value());
  CHECK_FALSE(back.train[1].documents.has_value());
  CHECK(back.train[1].shards == 0);
  CHECK(back.tokenizer == "bpe-0");
  CHECK_REFUSED("train[0] has a count of -1", (m.mutable_data()->add_train()->set_tokens(-1)));
  CHECK_REFUSED("train[0] has a count of -7", (m.mutable_data()->add_train()->set_documents(-7)));
  CHECK_REFUSED("train[0]: xxh3_128 \"\"", (m.mutable_data()->add_train()->set_tokens(1)));
  CHECK_REFUSED("expected 32 hexadecimal", (m.mutable_data()->add_train()->set_xxh3_128(std::string(32, '\n'))));
  CHECK_REFUSED("expected 32 hexadecimal", (m.mutable_data()->add_train()->set_xxh3_128(std::string(33, '0'))));
  CHECK_REFUSED("the tokenizer \"a/b\"", m.mutable_data()->set_tokenizer("a/b"));
  CHECK_REFUSED("the tokenizer", m.mutable_data()->set_tokenizer(std::string(100'000, 't')));
}

TEST_CASE("tensors have a name, a known dtype, and a shape whose product is known") {
  CHECK_REFUSED("expected a name", t.clear_name());
  CHECK_REFUSED("expected a name", t.set_name(std::string(1001, 'n')));
  CHECK_REFUSED("tensor \"a\": is listed twice", *m.add_tensor() = t);
  CHECK_REFUSED("unknown dtype \"F33\"", t.set_dtype("F33"));
  CHECK_REFUSED("unknown dtype", t.set_dtype(std::string(100'000, 'F')));
  CHECK_REFUSED("unknown dtype \"\"", t.clear_dtype());
  CHECK_REFUSED("5 dims, at most 4", for (int i = 0; i < 3; ++i) t.add_shape(1));
  CHECK_REFUSED("extent below 0", t.set_shape(0, -4));
  CHECK_REFUSED("too many elements", t.set_shape(0, kHuge));
  CHECK_REFUSED("too many elements", t.set_shape(0, int64_t{1} << 62));
  CHECK_REFUSED("too many elements", (t.set_shape(0, int64_t{1} << 40), t.set_shape(1, int64_t{1} << 40)));
  // Zero times anything is zero, and no product before it may overflow.
  CHECK_REFUSED("too many elements",
                (t.set_shape(0, int64_t{1} << 40), t.set_shape(1, int64_t{1} << 40), t.add_shape(0)));
}

TEST_CASE("pieces lie inside their shards, their tensors and their files") {
  CHECK_REFUSED("a piece in file 2 of 2", p.set_file(2));
  CHECK_REFUSED("a piece in file -1 of 2", p.set_file(-1));
  CHECK_REFUSED("a piece of 13 elements from 0 in a shard of 12", p.set_count(13));
  CHECK_REFUSED("a piece of 12 elements from 1 in a shard of 12", p.set_begin(1));
  CHECK_REFUSED("a piece of 12 elements from -1", p.set_begin(-1));
  CHECK_REFUSED("a piece of -1 elements", p.set_count(-1));
  CHECK_REFUSED("elements from 9223372036854775807", p.set_begin(kHuge));
  CHECK_REFUSED("a piece with 1 dims, expected 2", p.mutable_dim()->RemoveLast());
  CHECK_REFUSED("a piece with half a range in dim 1", p.mutable_dim(1)->add_range(5));
  CHECK_REFUSED("a piece with the range [0, +5) in dim 0 of 4", p.mutable_dim(0)->set_range(1, 5));
  CHECK_REFUSED("a piece with the range [-1, +4)", p.mutable_dim(0)->set_range(0, -1));
  CHECK_REFUSED("a piece with the range [0, +-1)", p.mutable_dim(0)->set_range(1, -1));
  CHECK_REFUSED("[9223372036854775807, +4)", p.mutable_dim(0)->set_range(0, kHuge));
  CHECK_REFUSED("+9223372036854775807)", p.mutable_dim(0)->set_range(1, kHuge));
  // Ranges of one dim in order, none twice.
  CHECK_REFUSED("a piece with the range [2, +2) in dim 0",
                (p.mutable_dim(0)->add_range(2), p.mutable_dim(0)->add_range(2)));
  CHECK_REFUSED("its 1 pieces hold 12 elements, expected 24", t.mutable_piece()->RemoveLast());
  CHECK_REFUSED("its 0 pieces hold 0 elements", t.clear_piece());
  CHECK_REFUSED("its 3 pieces hold 36 elements, expected 24", *t.add_piece() = p);
  CHECK_REFUSED("do not fit into the file \"rank-00000.safetensors\"", m.mutable_file(0)->set_bytes(40));
  // Petabytes in 200 bytes, in one piece or in many.
  CHECK_REFUSED("do not fit into the file",
                (t.set_shape(0, int64_t{1} << 50), p.clear_dim(), p.set_count(int64_t{1} << 52)));
}

TEST_CASE("tensors without elements are none's, and open") {
  Manifest manifest = sound();
  manifest.mutable_tensor(0)->clear_piece();
  manifest.mutable_tensor(0)->set_shape(1, 0);
  CHECK(error_in(manifest_text(manifest)) == "no error");
}

TEST_CASE("a manifest too large to be read back, or unsound, is not written") {
  Manifest manifest = sound();
  const std::string text = manifest_text(manifest);
  const auto size = static_cast<int64_t>(text.size());
  CHECK(readable_manifest_text(manifest, "MANIFEST", size) == text);
  const std::string said = error_of([&] { readable_manifest_text(manifest, "MANIFEST", size - 1); });
  CHECK(said.find(fmt::format("MANIFEST: would have {} bytes, and more than {} are never read", size, size - 1)) == 0);
  manifest.mutable_file(0)->set_name("../elsewhere");
  CHECK(error_of([&] { readable_manifest_text(manifest, "MANIFEST"); }).find("../elsewhere") != std::string::npos);
}

TEST_CASE("a piece takes as much of a manifest as its limit is reckoned with") {
  // The longest numbers, in one dim and in two.
  Manifest manifest = sound();
  StateTensor& tensor = *manifest.mutable_tensor(0);
  const size_t before = manifest_text(manifest).size();
  Piece& piece = *tensor.add_piece();
  piece.set_file(12'345);
  piece.set_begin(123'456'789);
  piece.set_count(123'456'789);
  piece.set_xxh3(std::numeric_limits<uint64_t>::max());
  const size_t flat = manifest_text(manifest).size() - before;
  HeldDim& dim = *piece.add_dim();
  dim.add_range(12'345);
  dim.add_range(12'345);
  const size_t sharded = manifest_text(manifest).size() - before;
  CAPTURE(flat, sharded);
  CHECK(flat <= 110);
  CHECK(sharded - flat <= 60);
}
