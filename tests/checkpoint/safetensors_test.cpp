// tests/checkpoint/safetensors_test.cpp: golden bytes, round trips in every dtype, and what is refused.
#include "core/checkpoint/safetensors.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "tests/temporary_folder.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

const std::map<std::string, std::string> kNoMetadata;

template <class T>
NamedTensor tensor_of(std::string name, Shape shape, const std::vector<T>& values) {
  return {std::move(name), shape, DTypeOf<T>::value, reinterpret_cast<const std::byte*>(values.data())};
}

std::vector<bfloat16> bf16(const std::vector<float>& values) { return {values.begin(), values.end()}; }

std::string golden_bytes() {
  std::string bytes("\x70\0\0\0\0\0\0\0", 8);
  bytes += R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
           R"("a":{"dtype":"BF16","shape":[1,3],"data_offsets":[8,14]}} )";
  bytes += std::string("\x00\x00\x80\x3f\x00\x00\x00\xc0\x80\x3f\x00\x40\x80\xbf", 14);
  return bytes;
}

// A file around a header of the caller's.
std::string file_of(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof(length));
  return bytes + header + std::string(data_bytes, '\x11');
}

void expect_refused(const TemporaryFolder& folder, const std::string& bytes, const std::string& text) {
  const auto path = folder / "hostile.safetensors";
  make_file(path, bytes);
  INFO("header: " << bytes.substr(0, 200));
  CHECK_THROWS_WITH(SafetensorsFile(path), Contains(text) && Contains("hostile.safetensors"));
}

TEST_CASE("the golden file is written byte for byte") {
  const TemporaryFolder folder;
  const std::vector<float> b = {1, -2};
  const std::vector<bfloat16> a = bf16({1, 2, -1});
  const auto path = folder / "golden.safetensors";
  write_safetensors(path, {tensor_of("a", {1, 3}, a), tensor_of("b", {2}, b)}, kNoMetadata);
  const std::string bytes = bytes_of_file(path);
  CHECK(bytes.size() == 134);
  CHECK(bytes == golden_bytes());
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);  // no temporary file stays
}

TEST_CASE("the golden file is read") {
  const TemporaryFolder folder;
  make_file(folder / "golden.safetensors", golden_bytes());
  const SafetensorsFile file(folder / "golden.safetensors");
  REQUIRE(file.tensors().size() == 2);
  CHECK(file.tensors()[0].name == "b");
  CHECK(file.tensors()[1].dtype == "BF16");
  CHECK(file.tensors()[1].shape == std::vector<int64_t>{1, 3});
  CHECK(file.metadata().empty());
  CHECK(file.read_f32("b", {2}) == std::vector<float>{1, -2});
  CHECK(file.read_f32("a", {1, 3}) == std::vector<float>{1, 2, -1});
  CHECK(file.contains("a"));
  CHECK_FALSE(file.contains("c"));
  CHECK_THROWS_WITH(file.find("c"), Contains("has no tensor \"c\" among its 2") && Contains("golden.safetensors"));
  CHECK_THROWS_WITH(file.read_f32("a", {3, 1}), Contains("\"a\"") && Contains("expected shape [3, 1], found [1, 3]"));
  CHECK_THROWS_WITH(file.read_f32("a", {3}), Contains("expected shape [3], found [1, 3]"));
}

TEST_CASE("an unaligned header of the reference's documentation is read") {
  const TemporaryFolder folder;
  const std::string header = R"({"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}})";
  REQUIRE(header.size() == 60);
  make_file(folder / "doc.safetensors", file_of(header, 16));
  const SafetensorsFile file(folder / "doc.safetensors");
  CHECK(file.find("test").numel == 4);
  CHECK_THROWS_WITH(file.read_f32("test", {2, 2}), Contains("expected dtype F64, F32, F16 or BF16, found I32"));
}

TEST_CASE("data is ordered widest dtype first, then by name, and aligned") {
  const TemporaryFolder folder;
  const std::vector<uint8_t> u8 = {7, 8, 9};
  const std::vector<int64_t> i64 = {-5};
  const std::vector<float> f32 = {1.5f, 2.5f};
  const std::vector<double> f64 = {0.1};
  const std::vector<int32_t> i32 = {3};
  const std::vector<bfloat16> half = bf16({0.5f});
  const auto path = folder / "mixed.safetensors";
  write_safetensors(path,
                    {tensor_of("u", {3}, u8), tensor_of("z", {2}, f32), tensor_of("h", {1}, half),
                     tensor_of("d", {1}, f64), tensor_of("i", {1}, i64), tensor_of("n", {}, i32),
                     tensor_of("empty", {0, 4}, std::vector<float>{}), tensor_of("a", {2, 1}, f32)},
                    {{"format", "pt"}, {"step", "12"}, {"odd \"key\"", "line\nbreak, é"}});
  const SafetensorsFile file(path);
  std::vector<std::string> names;
  for (const StoredTensor& tensor : file.tensors()) {
    names.push_back(tensor.name);
    if (tensor.numel > 0) CHECK(tensor.begin_bytes % ((tensor.end_bytes - tensor.begin_bytes) / tensor.numel) == 0);
  }
  CHECK(names == std::vector<std::string>{"i", "d", "a", "empty", "z", "n", "h", "u"});
  CHECK(file.metadata().at("odd \"key\"") == "line\nbreak, é");
  CHECK(file.metadata().size() == 3);
  CHECK(file.find("n").shape.empty());
  CHECK(file.find("n").numel == 1);
  CHECK(file.read_f32("empty", {0, 4}).empty());
  CHECK(file.read_f32("d", {1}) == std::vector<float>{0.1f});
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes_of_file(path).data(), 8);
  CHECK(header_bytes % 8 == 0);
}

TEST_CASE("an empty file of tensors round trips") {
  const TemporaryFolder folder;
  write_safetensors(folder / "none.safetensors", {}, {{"format", "pt"}});
  const SafetensorsFile file(folder / "none.safetensors");
  CHECK(file.tensors().empty());
  CHECK(file.metadata().at("format") == "pt");
}

TEST_CASE("a tensor longer than a piece is read bit for bit and converted") {
  const TemporaryFolder folder;
  constexpr int64_t kCount = 3 * (1 << 16) + 17;
  Allocator allocator(DeviceKind::kCpu);
  std::vector<bfloat16> stored(kCount);
  for (size_t i = 0; i < stored.size(); ++i) stored[i] = bfloat16::from_bits(static_cast<uint16_t>(i * 40503u >> 3));
  const auto path = folder / "long.safetensors";
  write_safetensors(path, {tensor_of("x", {kCount}, stored)}, kNoMetadata);
  const SafetensorsFile file(path);

  const Tensor same = Tensor::empty({kCount}, DType::kBF16, allocator, MemoryKind::kWeights);
  file.read("x", same);
  CHECK(std::memcmp(same.raw(), stored.data(), static_cast<size_t>(same.bytes())) == 0);  // NaN patterns too

  const Tensor wide = Tensor::empty({kCount}, DType::kF64, allocator, MemoryKind::kWeights);
  file.read("x", wide);
  size_t different = 0;
  for (int64_t i = 0; i < kCount; ++i) {
    const double expected = static_cast<double>(static_cast<float>(stored[static_cast<size_t>(i)]));
    const double found = wide.data<double>()[i];
    different += std::isnan(expected) ? !std::isnan(found) : found != expected;
  }
  CHECK(different == 0);
}

TEST_CASE("every f16 value is converted exactly") {
  const TemporaryFolder folder;
  std::string data;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    data += static_cast<char>(bits & 0xFF);
    data += static_cast<char>(bits >> 8);
  }
  const std::string header = R"({"h":{"dtype":"F16","shape":[65536],"data_offsets":[0,131072]}})";
  make_file(folder / "half.safetensors", file_of(header, 0) + data);
  const std::vector<float> values = SafetensorsFile(folder / "half.safetensors").read_f32("h", {65536});
  size_t different = 0;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = static_cast<int>(bits >> 10 & 0x1F);
    const double mantissa = static_cast<double>(bits & 0x3FF) / 1024;
    double expected = exponent == 0 ? std::ldexp(mantissa, -14) : std::ldexp(1 + mantissa, exponent - 15);
    if (exponent == 31) expected = mantissa == 0 ? std::numeric_limits<double>::infinity() : std::nan("");
    if (bits & 0x8000) expected = -expected;
    const double found = static_cast<double>(values[bits]);
    different +=
        std::isnan(expected) ? !std::isnan(found) : found != expected || std::signbit(found) != std::signbit(expected);
  }
  CHECK(different == 0);
}

TEST_CASE("f64 is rounded to f32 and bf16 to nearest even") {
  const TemporaryFolder folder;
  Allocator allocator(DeviceKind::kCpu);
  const std::vector<double> values = {1.0 / 3, 1 + 0x1p-8, 1 + 3 * 0x1p-8, -1e300, 0.0};
  write_safetensors(folder / "d.safetensors", {tensor_of("d", {5}, values)}, kNoMetadata);
  const SafetensorsFile file(folder / "d.safetensors");
  const Tensor narrow = Tensor::empty({5}, DType::kBF16, allocator, MemoryKind::kWeights);
  file.read("d", narrow);
  const std::vector<bfloat16> found = narrow.to_vector<bfloat16>();
  CHECK(static_cast<float>(found[0]) == 0.333984375f);
  CHECK(static_cast<float>(found[1]) == 1.0f);         // tie to even: down
  CHECK(static_cast<float>(found[2]) == 1 + 0x1p-6f);  // tie to even: up
  CHECK(static_cast<float>(found[3]) == -std::numeric_limits<float>::infinity());
  CHECK(file.read_f32("d", {5})[0] == static_cast<float>(1.0 / 3));
}

TEST_CASE("the writer refuses what it could not read back") {
  const TemporaryFolder folder;
  const std::vector<float> x = {1};
  CHECK_THROWS_WITH(write_safetensors(folder / "t", {tensor_of("x", {1}, x), tensor_of("x", {1}, x)}, kNoMetadata),
                    Contains("\"x\" appears twice"));
  CHECK_THROWS_WITH(write_safetensors(folder / "t", {tensor_of("a\xff", {1}, x)}, kNoMetadata),
                    Contains("is not UTF-8"));
  CHECK_THROWS_WITH(write_safetensors(folder / "t", {tensor_of("__metadata__", {1}, x)}, kNoMetadata),
                    Contains("__metadata__"));
  CHECK_THROWS_WITH(write_safetensors(folder / "no" / "t", {tensor_of("x", {1}, x)}, kNoMetadata),
                    Contains("cannot be created: No such file or directory"));
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("a file cut at any length, or longer by a byte, is refused") {
  const TemporaryFolder folder;
  const std::string golden = golden_bytes();
  for (size_t length = 0; length < golden.size(); ++length) {
    INFO("cut at " << length);
    make_file(folder / "cut.safetensors", golden.substr(0, length));
    CHECK_THROWS_AS(SafetensorsFile(folder / "cut.safetensors"), Error);
  }
  expect_refused(folder, golden.substr(0, 5), "holds 5 bytes; a safetensors file has at least 8");
  expect_refused(folder, golden.substr(0, 60), "states a header of 112 bytes, but only 52 follow; it is truncated");
  expect_refused(folder, golden.substr(0, 133), "describes 14 bytes of data, the file holds 13");
  expect_refused(folder, golden + "x", "describes 14 bytes of data, the file holds 15");
}

TEST_CASE("any single bit flipped in the header is refused or harmless") {
  const TemporaryFolder folder;
  const std::string golden = golden_bytes();
  const auto path = folder / "flipped.safetensors";
  size_t refused = 0;
  for (size_t bit = 0; bit < 120 * 8; ++bit) {
    std::string bytes = golden;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ 1 << bit % 8);
    make_file(path, bytes);
    try {
      const SafetensorsFile file(path);
      int64_t total = 0;  // what was accepted still covers the data exactly
      for (const StoredTensor& tensor : file.tensors()) total += tensor.end_bytes - tensor.begin_bytes;
      CHECK(total == static_cast<int64_t>(bytes.size()) - 120);
    } catch (const Error&) {
      ++refused;
    }
  }
  CHECK(refused > 800);  // what passes: letters of names, equal-width dtypes, F64 of half the shape
}

TEST_CASE("hostile headers are refused with a reason") {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& header, size_t data_bytes, const std::string& text) {
    expect_refused(folder, file_of(header, data_bytes), text);
  };
  const std::string one = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";

  SECTION("the length") {
    expect_refused(folder, std::string(8, '\xff'),
                   "states a header of 18446744073709551615 bytes; the limit is 100000000");
    expect_refused(folder, std::string("\x01\xe1\xf5\x05\0\0\0\0{", 9), "states a header of 100000001 bytes");
    expect_refused(folder, std::string("\x00\xe1\xf5\x05\0\0\0\0{", 9), "but only 1 follow");
  }
  SECTION("not this JSON") {
    refused("", 0, "must start with '{'");
    refused(" {}", 0, "must start with '{'");
    refused("[]", 0, "must start with '{'");
    refused("\xEF\xBB\xBF{}", 0, "must start with '{'");
    refused("{", 0, "not valid JSON");
    refused("{}{}", 0, "not valid JSON");
    refused("{} x", 0, "not valid JSON");
    refused(std::string("{}\0{}", 5), 0, "NUL");
    refused("{" + one + ",}", 4, "not valid JSON");
    refused("{\"a\xff\":1}", 0, "not valid JSON");
    refused("{\"\xc0\xaf\":{}}", 0, "not valid JSON");      // overlong UTF-8
    refused("{\"\xed\xa0\x80\":{}}", 0, "not valid JSON");  // a surrogate
    refused(R"({"a":1})", 0, "\"a\": expected an object, found 1");
    refused(R"({"a":[]})", 0, "\"a\": expected an object, found a list");
    refused(R"({"a":null})", 0, "\"a\": expected an object, found null");
  }
  SECTION("depth") {
    std::string deep = "{\"a\":";
    for (int i = 0; i < 100000; ++i) deep += "[";
    refused(deep, 0, "expected an object, found a list");
    std::string objects = "{";
    for (int i = 0; i < 100000; ++i) objects += "\"dtype\":{";
    refused(objects, 0, "dtype: found an object");
  }
  SECTION("duplicates") {
    refused("{" + one + "," + one + "}", 4, "\"a\" appears twice");
    refused(R"({"a":{"dtype":"U8","dtype":"I8","shape":[4],"data_offsets":[0,4]}})", 4, "key \"dtype\" appears twice");
    refused(R"({"__metadata__":{"k":"1","k":"2"}})", 0, "key \"k\" appears twice");
    refused(R"({"__metadata__":{},"__metadata__":{}})", 0, "\"__metadata__\" appears twice");
  }
  SECTION("metadata") {
    refused(R"({"__metadata__":{"k":1}})", 0, "\"k\": expected a string, found 1");
    refused(R"({"__metadata__":{"k":{}}})", 0, "expected a string, found an object");
    refused(R"({"__metadata__":"k"})", 0, "expected an object, found \"k\"");
  }
  SECTION("fields") {
    refused(R"({"a":{"shape":[4],"data_offsets":[0,4]}})", 4, "dtype is missing");
    refused(R"({"a":{"dtype":"U8","data_offsets":[0,4]}})", 4, "shape is missing");
    refused(R"({"a":{"dtype":"U8","shape":[4]}})", 4, "data_offsets is missing");
    refused(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"more":1}})", 4, "unknown key \"more\"");
    refused(R"({"a":{"dtype":"Q7","shape":[4],"data_offsets":[0,4]}})", 4, "tensor \"a\": unknown dtype \"Q7\"");
    refused(R"({"a":{"dtype":8,"shape":[4],"data_offsets":[0,4]}})", 4, "dtype: found 8");
    refused(R"({"a":{"dtype":"U8","shape":4,"data_offsets":[0,4]}})", 4, "shape: found 4");
    refused(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0]}})", 4, "expected two whole numbers, found 1");
    refused(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4,4]}})", 4, "expected two whole numbers, found 4");
    refused(R"({"a":{"dtype":"U8","shape":[[4]],"data_offsets":[0,4]}})", 4, "shape: expected whole numbers");
    refused(R"({"a":{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}})", 4, "shape: expected whole numbers of 0 to");
    refused(R"({"a":{"dtype":"U8","shape":[4.0],"data_offsets":[0,4]}})", 4, "found 4.0");
    refused(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,18446744073709551615]}})", 4,
            "found 18446744073709551615");
    refused(R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,4]}})", 4, "more than 8 dimensions");
    refused(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2, "12 bits are no whole number of bytes");
  }
  SECTION("sizes") {
    refused(R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "shape overflows");
    refused(R"({"a":{"dtype":"F64","shape":[9223372036854775807],"data_offsets":[0,0]}})", 0, "shape overflows");
    refused(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,3]}})", 3, "need 4 bytes, data_offsets [0, 3] give 3");
    refused(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}})", 4, "data_offsets [4, 0] give -4");
    refused(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}})", 5, "begins at byte 1, expected 0");
    refused("{" + one + R"(,"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", 6,
            "\"b\": its data begins at byte 2, expected 4");
    refused("{" + one + R"(,"b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}})", 9,
            "\"b\": its data begins at byte 5, expected 4");
    refused("{" + one + R"(,"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "begins at byte 0, expected 4");
    refused(R"({"a":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}})", 4,
            "describes 1099511627776 bytes of data, the file holds 4");
  }
}

TEST_CASE("messages about a hostile file stay short") {
  const TemporaryFolder folder;
  make_file(folder / "long.safetensors", file_of("{\"" + std::string(1 << 20, 'n') + "\":1}", 0));
  try {
    SafetensorsFile file(folder / "long.safetensors");
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).size() < 600);
  }
}

TEST_CASE("a path that is no file is refused") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH(SafetensorsFile(folder / "absent"), Contains("cannot be opened: No such file or directory"));
  CHECK_THROWS_WITH(SafetensorsFile(folder.path()), Contains("is not a regular file"));
}

TEST_CASE("a file cut after it was opened is an error, not a crash") {
  const TemporaryFolder folder;
  const auto path = folder / "cut.safetensors";
  make_file(path, golden_bytes());
  const SafetensorsFile file(path);
  std::filesystem::resize_file(path, 125);
  CHECK_THROWS_WITH(file.read_f32("b", {2}), Contains("ends at byte 125; it was cut while being read"));
}

}  // namespace
}  // namespace shoal
