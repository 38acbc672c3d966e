// tests/fuzz/native_checkpoint_fuzz.cpp: a checkpoint's folder: MANIFEST and COMMIT as text, and one shard.
//
// The input is up to three parts (take_part): manifest, shard, commit. Without the last the commit is the right one: a
// hostile manifest is to get as far as it can.
#include <google/protobuf/text_format.h>

#include "core/base/check.h"
#include "core/base/checksum.h"
#include "core/checkpoint/manifest_text.h"
#include "core/checkpoint/native_checkpoint.h"
#include "core/checkpoint/safetensors_header.h"
#include "tests/fuzz/parser.h"

namespace shoal::fuzz {

namespace {

constexpr const char* kShard = "rank-00000.safetensors";

void read_all(const NativeCheckpoint& checkpoint) {
  Allocator host(DeviceKind::kCpu);
  for (const StateTensor& tensor : checkpoint.manifest().tensor()) {
    if (numel_of(tensor) > 1 << 16) continue;  // a model of this program says how much is read
    Shape shape;
    for (const int64_t extent : tensor.shape()) shape.append(extent);
    const DType dtype = tensor.dtype() == "BF16" ? DType::kBF16 : tensor.dtype() == "F64" ? DType::kF64 : DType::kF32;
    checkpoint.read({.name = tensor.name(),
                     .sharding = whole_tensor(shape),
                     .begin = 0,
                     .values = Tensor::empty({shape.numel()}, dtype, host, MemoryKind::kWorkspace)});
  }
}

void run(std::string_view input) {
  const std::string manifest(take_part(input));
  scratch_file(std::string("step-1/") + kShard, take_part(input));
  scratch_file("step-1/COMMIT", input.empty() ? commit_text(manifest) : std::string(input));
  const std::filesystem::path path = scratch_file("step-1/MANIFEST.textproto", manifest);
  const NativeCheckpoint checkpoint(path.parent_path());
  // What was read is written the same again.
  Manifest again = parse_manifest(manifest_text(checkpoint.manifest()), "again");
  SHOAL_CHECK_EQ(manifest_text(again), manifest_text(checkpoint.manifest()));
  read_all(checkpoint);
  checkpoint.verify();
}

// A sound checkpoint of three tensors of f32, each in one piece: [2, 1], [4] and a scalar.
struct Sound {
  std::string shard;
  Manifest manifest;

  Sound() {
    const std::vector<float> a{1, 4}, b{2, 3, 5, 6}, c{7};
    std::vector<NamedTensor> tensors{
        {"v", {2}, DType::kF32, reinterpret_cast<const std::byte*>(a.data())},
        {"w", {4}, DType::kF32, reinterpret_cast<const std::byte*>(b.data())},
        {"s", {1}, DType::kF32, reinterpret_cast<const std::byte*>(c.data())},
    };
    std::string data;
    const std::string header = make_safetensors_header(tensors, {});
    for (const NamedTensor& tensor : tensors) {
      data.append(reinterpret_cast<const char*>(tensor.data), static_cast<size_t>(tensor.shape.numel()) * 4);
    }
    shard = bytes_of(static_cast<uint64_t>(header.size())) + header + data;
    const std::string text =
        R"(format: 1 progress { step: 1 sequences: 8 tokens: 64 updates: 1 seed: 3 recent_loss: 2.5 }
      layout { ranks: 1 data: 1 compute: "f32" } config: "run {}"
      data { tokenizer: "bpe-0" train { tokens: 64 documents: 2 xxh3_128: "00112233445566778899aabbccddeeff" }
             train { shards: 1 xxh3_128: "00112233445566778899aabbccddeeff" } }
      file { name: "rank-00000.safetensors" }
      tensor { name: "v" dtype: "F32" shape: 2 shape: 1
               piece { file: 0 dim { range: 0 range: 2 } dim { range: 0 range: 1 } begin: 0 count: 2 } }
      tensor { name: "w" dtype: "F32" shape: 4 piece { file: 0 begin: 0 count: 4 } }
      tensor { name: "s" dtype: "F32" piece { file: 0 begin: 0 count: 1 } })";
    SHOAL_CHECK(google::protobuf::TextFormat::ParseFromString(text, &manifest));
    manifest.mutable_file(0)->set_bytes(static_cast<int64_t>(shard.size()));
    manifest.mutable_file(0)->set_xxh3_128(xxh3_128_text(shard));
    manifest.mutable_tensor(0)->mutable_piece(0)->set_xxh3(xxh3_64(a.data(), 8));
    manifest.mutable_tensor(1)->mutable_piece(0)->set_xxh3(xxh3_64(b.data(), 16));
    manifest.mutable_tensor(2)->mutable_piece(0)->set_xxh3(xxh3_64(c.data(), 4));
  }
  std::string with(const std::function<void(Manifest&)>& change) const {
    Manifest changed = manifest;
    change(changed);
    return manifest_text(changed) + std::string(kBetween) + shard;
  }
};

std::vector<Seed> seeds() {
  const Sound sound;
  const std::string text = manifest_text(sound.manifest);
  const std::string between(kBetween);
  const auto piece_of = [](Manifest& m) { return m.mutable_tensor(0)->mutable_piece(0); };
  const auto tensor_of = [](Manifest& m) { return m.mutable_tensor(0); };
  const auto make_huge = [&](Manifest& m, int tensor) {
    constexpr int64_t kElements = int64_t{1} << 38;
    m.mutable_tensor(tensor)->set_shape(0, kElements);
    Piece& piece = *m.mutable_tensor(tensor)->mutable_piece(0);
    piece.set_count(kElements);
    if (piece.dim_size() > 0) piece.mutable_dim(0)->set_range(1, kElements);
  };
  return {
      {sound.with([](Manifest&) {}), kSound},
      {text + between + sound.shard + between + commit_text(text), kSound},
      {sound.with([](Manifest& m) { m.set_format(2); }), "format 2, and this program reads format 1"},
      {sound.with([](Manifest& m) { m.mutable_progress()->set_step(-1); }), "progress: step is -1, expected 0 to"},
      {sound.with([](Manifest& m) { m.mutable_file(0)->set_name("../../etc/passwd"); }), "the file name"},
      {sound.with([](Manifest& m) { m.mutable_file(0)->set_name("/etc/passwd"); }), "the file name"},
      {sound.with([](Manifest& m) { m.mutable_file(0)->set_name(".."); }), "the file name"},
      {sound.with([](Manifest& m) { m.mutable_file(0)->set_name("absent"); }), "absent: is missing"},
      {sound.with([](Manifest& m) { m.mutable_file(0)->set_name("COMMIT"); }), "COMMIT: has"},
      {sound.with([](Manifest& m) { m.mutable_file(0)->set_bytes(-1); }), "has -1 bytes"},
      {sound.with([](Manifest& m) { *m.add_file() = m.file(0); }), "is listed twice"},
      {sound.with([](Manifest& m) { m.mutable_data()->set_tokenizer("a\nb"); }), "the tokenizer \"a?b\""},
      {sound.with([](Manifest& m) { m.mutable_data()->mutable_train(0)->set_tokens(-1); }), "has a count of -1"},
      {sound.with([](Manifest& m) { m.mutable_data()->mutable_train(1)->clear_xxh3_128(); }),
       "expected 32 hexadecimal"},
      {sound.with([](Manifest& m) { *m.add_tensor() = m.tensor(0); }), "is listed twice"},
      {sound.with([&](Manifest& m) { tensor_of(m)->set_dtype("F31"); }), "unknown dtype \"F31\""},
      {sound.with([&](Manifest& m) { tensor_of(m)->set_shape(0, -2); }), "an extent below 0"},
      {sound.with([&](Manifest& m) { tensor_of(m)->set_shape(0, INT64_MAX); }), "too many elements"},
      {sound.with([&](Manifest& m) {
         for (int i = 0; i < 9; ++i) tensor_of(m)->add_shape(1);
       }),
       "11 dims, at most"},
      {sound.with([&](Manifest& m) { tensor_of(m)->clear_piece(); }), "its 0 pieces hold 0 elements, expected 2"},
      {sound.with([&](Manifest& m) { piece_of(m)->set_file(1); }), "a piece in file 1 of 1"},
      {sound.with([&](Manifest& m) { piece_of(m)->set_file(-1); }), "a piece in file -1 of 1"},
      {sound.with([&](Manifest& m) { piece_of(m)->set_count(3); }), "a piece of 3 elements from 0 in a shard of 2"},
      {sound.with([&](Manifest& m) { piece_of(m)->set_begin(INT64_MAX); }), "a piece of 2 elements from"},
      {sound.with([&](Manifest& m) { piece_of(m)->mutable_dim(0)->set_range(1, INT64_MAX); }), "with the range [0, +"},
      {sound.with([&](Manifest& m) { piece_of(m)->mutable_dim(0)->add_range(1); }), "half a range"},
      {sound.with([&](Manifest& m) {
         for (int i = 0; i < 2; ++i) piece_of(m)->mutable_dim(0)->add_range(1);
       }),
       "with the range [1, +1)"},
      {sound.with([&](Manifest& m) { piece_of(m)->set_xxh3(1); }), "the file is damaged"},
      {sound.with([&](Manifest& m) { m.mutable_file(0)->set_xxh3_128("x"); }), "the file is damaged"},
      {sound.with([&](Manifest& m) { make_huge(m, 0); }), "its pieces do not fit into the file"},
      {sound.with([&](Manifest& m) { make_huge(m, 1); }), "its pieces do not fit into the file"},
      {text, "has 0 bytes, expected"},
      {text + between + sound.shard.substr(0, 40), "has 40 bytes, expected"},
      {text + between + sound.shard + between + "xxh3", "does not fit COMMIT"},
      {"", "format 0"},
      {"format: 99999999999", "out of range"},
      {"unknown: 1", "no field named \"unknown\""},
      {"format: 1 tensor { name: \"\xff\" }"},
      {repeated("tensor { piece { dim {", 3000)},
      {repeated("layout {", 3000)},
      {repeated("\n", 20000) + "x"},
  };
}

const Registered registered({"native_checkpoint", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
