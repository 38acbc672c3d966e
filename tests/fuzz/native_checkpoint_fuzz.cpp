// tests/fuzz/native_checkpoint_fuzz.cpp: a checkpoint's folder: MANIFEST and COMMIT as text, and one shard.
//
// The input is up to three parts, with a line "=====" between them: manifest, shard, commit. Without the last the
// commit is the right one: a hostile manifest is to get as far as it can.
#include <google/protobuf/text_format.h>

#include "core/base/check.h"
#include "core/checkpoint/checksum.h"
#include "core/checkpoint/manifest_text.h"
#include "core/checkpoint/native_checkpoint.h"
#include "core/checkpoint/safetensors_header.h"
#include "tests/fuzz/parser.h"

namespace shoal::fuzz {

namespace {

constexpr std::string_view kBetween = "\n=====\n";
constexpr const char* kShard = "rank-00000.safetensors";

// Takes the first part off.
std::string_view take_part(std::string_view& rest) {
  const size_t end = rest.find(kBetween);
  const std::string_view part = rest.substr(0, end);
  rest.remove_prefix(end == rest.npos ? rest.size() : end + kBetween.size());
  return part;
}

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

// A sound checkpoint of a [2, 3] f32 in two pieces, one of them strided, and a scalar.
struct Sound {
  std::string shard;
  Manifest manifest;

  Sound() {
    const std::vector<float> a{1, 4}, b{2, 3, 5, 6}, c{7};
    std::vector<NamedTensor> tensors{
        {"a", {2}, DType::kF32, reinterpret_cast<const std::byte*>(a.data())},
        {"b", {4}, DType::kF32, reinterpret_cast<const std::byte*>(b.data())},
        {"c", {1}, DType::kF32, reinterpret_cast<const std::byte*>(c.data())},
    };
    // A file holds a piece under its tensor's name: "w" and "w/m" have one piece each here, "s" the scalar.
    tensors[0].name = "v", tensors[1].name = "w", tensors[2].name = "s";
    std::string data;
    const std::string header = make_safetensors_header(tensors, {});
    for (const NamedTensor& tensor : tensors) {
      data.append(reinterpret_cast<const char*>(tensor.data), static_cast<size_t>(tensor.shape.numel()) * 4);
    }
    shard = bytes_of(static_cast<uint64_t>(header.size())) + header + data;
    const std::string text =
        R"(format: 1 progress { step: 1 sequences: 8 tokens: 64 updates: 1 seed: 3 recent_loss: 2.5 }
      layout { ranks: 1 data: 1 compute: "f32" } config: "run {}"
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
  return {
      sound.with([](Manifest&) {}),
      sound.with([](Manifest& m) { m.set_format(2); }),
      sound.with([](Manifest& m) { m.mutable_progress()->set_step(-1); }),
      sound.with([](Manifest& m) { m.mutable_file(0)->set_name("../../etc/passwd"); }),
      sound.with([](Manifest& m) { m.mutable_file(0)->set_name("/etc/passwd"); }),
      sound.with([](Manifest& m) { m.mutable_file(0)->set_name("COMMIT"); }),
      sound.with([](Manifest& m) { m.mutable_file(0)->set_bytes(-1); }),
      sound.with([](Manifest& m) { *m.add_file() = m.file(0); }),
      sound.with([](Manifest& m) { *m.add_tensor() = m.tensor(0); }),
      sound.with([](Manifest& m) { m.mutable_tensor(0)->set_dtype("F31"); }),
      sound.with([](Manifest& m) { m.mutable_tensor(0)->set_shape(0, -2); }),
      sound.with([](Manifest& m) { m.mutable_tensor(0)->set_shape(0, INT64_MAX); }),
      sound.with([](Manifest& m) {
        for (int i = 0; i < 9; ++i) m.mutable_tensor(0)->add_shape(1);
      }),
      sound.with([&](Manifest& m) { piece_of(m)->set_file(1); }),
      sound.with([&](Manifest& m) { piece_of(m)->set_file(-1); }),
      sound.with([&](Manifest& m) { piece_of(m)->set_count(3); }),
      sound.with([&](Manifest& m) { piece_of(m)->set_begin(INT64_MAX); }),
      sound.with([&](Manifest& m) { piece_of(m)->mutable_dim(0)->set_range(1, INT64_MAX); }),
      sound.with([&](Manifest& m) { piece_of(m)->mutable_dim(0)->add_range(1); }),
      sound.with(
          [&](Manifest& m) { piece_of(m)->mutable_dim(0)->add_range(1), piece_of(m)->mutable_dim(0)->add_range(1); }),
      sound.with([&](Manifest& m) { piece_of(m)->set_xxh3(1); }),
      // A terabyte that the file does not hold; billions of single elements
      sound.with([&](Manifest& m) {
        m.mutable_tensor(1)->set_shape(0, int64_t{1} << 38);
        m.mutable_tensor(1)->mutable_piece(0)->set_count(int64_t{1} << 38);
      }),
      sound.with([&](Manifest& m) {
        m.mutable_tensor(0)->set_shape(0, int64_t{1} << 33), piece_of(m)->set_count(int64_t{1} << 33);
        piece_of(m)->mutable_dim(0)->set_range(1, int64_t{1} << 33);
      }),
      text,
      text + between + sound.shard + between + commit_text(text),
      text + between + sound.shard + between + "xxh3",
      text + between + sound.shard.substr(0, 40),
      repeated("tensor { piece { dim {", 3000),
      repeated("layout {", 3000),
      "format: 1",
      "",
      "format: 1 tensor { name: \"\xff\" }",
      "format: 99999999999",
      "unknown: 1",
  };
}

const Registered registered({"native_checkpoint", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
