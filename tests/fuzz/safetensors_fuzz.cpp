// tests/fuzz/safetensors_fuzz.cpp: a safetensors file: its header, and its tensors as values.
#include <vector>

#include "core/base/check.h"
#include "core/checkpoint/safetensors.h"
#include "tests/fuzz/parser.h"

namespace shoal::fuzz {

namespace {

void run(std::string_view input) {
  const SafetensorsFile file(scratch_file("model.safetensors", input));
  int64_t bytes = 0;
  for (const StoredTensor& tensor : file.tensors()) {
    SHOAL_CHECK(&file.find(tensor.name) == &tensor);
    bytes += tensor.end_bytes - tensor.begin_bytes;
    std::vector<std::byte> raw(static_cast<size_t>(tensor.end_bytes - tensor.begin_bytes));
    file.read_raw(tensor, 0, raw);
    Shape shape;
    if (tensor.shape.size() > Shape::kMaxDims) continue;
    for (const int64_t extent : tensor.shape) shape.append(extent);
    try {
      const std::vector<float> values = file.read_f32(tensor.name, shape);
      SHOAL_CHECK_EQ(static_cast<int64_t>(values.size()), tensor.numel);
    } catch (const Error& error) {  // a dtype that is no float's
      if (std::string_view(error.what()).find("expected dtype") == std::string_view::npos) throw;
    }
  }
  SHOAL_CHECK(bytes <= static_cast<int64_t>(input.size()), "tensors of {} bytes in a file of {}", bytes, input.size());
}

std::string file_of(const std::string& header, const std::string& data = {}) {
  return bytes_of(static_cast<uint64_t>(header.size())) + header + data;
}

std::vector<Seed> seeds() {
  const std::string eight(8, '\x3f');
  const auto tensor = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"dtype":")" + dtype + R"(","shape":[)" + shape + R"(],"data_offsets":[)" + offsets + "]}";
  };
  // One tensor "a".
  const auto one = [&](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"a":)" + tensor(dtype, shape, offsets) + "}";
  };
  const auto two = [&](const std::string& a, const std::string& b) {
    return file_of(R"({"a":)" + a + R"(,"b":)" + b + "}", eight);
  };
  return {
      {file_of(R"({"__metadata__":{"format":"pt"},"a":)" + tensor("F32", "2", "0,8") + "}", eight), kSound},
      {two(tensor("BF16", "2,1", "0,4"), tensor("F16", "2", "4,8")), kSound},
      {two(tensor("F64", "1", "0,8"), tensor("I64", "0", "8,8")), kSound},
      {file_of("{}"), kSound},
      {two(tensor("U8", "8", "0,8"), tensor("U8", "8", "0,8")), "its data begins at byte 0, expected 8"},
      {two(tensor("U8", "4", "0,4"), tensor("U8", "2", "6,8")), "its data begins at byte 6, expected 4"},
      {file_of(one("U8", "4", "4,0"), eight), "data_offsets [4, 0]"},
      {file_of(one("U8", "9", "0,9"), eight), "describes 9 bytes of data, the file holds 8"},
      {file_of(one("U8", "8", "0,8"), eight + "x"), "describes 8 bytes of data, the file holds 9"},
      {file_of(one("F32", "4294967296,4294967296", "0,0")), "shape overflows 64 bits"},
      {file_of(one("F32", "9223372036854775807,9223372036854775807,0", "0,0")), "shape overflows 64 bits"},
      {file_of(one("F32", "4611686018427387904", "0,0")), "shape overflows 64 bits"},
      {file_of(one("F32", "0,9223372036854775807", "0,0")), kSound},
      {file_of(one("F32", "1,1,1,1,1,1,1,1,1", "0,4"), eight), "more than 8 dimensions"},
      {file_of(one("F32", "-1", "0,4"), eight), "expected whole numbers of 0 to 2^63 - 1, found -1"},
      {file_of(one("U8", "1", "18446744073709551615,18446744073709551616"), eight), "data_offsets"},
      {file_of(one("F99", "1", "0,4"), eight), "unknown dtype \"F99\""},
      {file_of(R"({"a":)" + tensor("U8", "8", "0,8") + R"(,"\u0061":)" + tensor("U8", "0", "8,8") + "}", eight),
       "\"a\" appears twice"},
      {file_of(R"({"a":{"dtype":"U8","dtype":"U8","shape":[8],"data_offsets":[0,8]}})", eight), "appears twice"},
      {file_of(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8],"x":1}})", eight), "unknown key \"x\""},
      {file_of(R"({"a":{"dtype":"U8","shape":[8]}})", eight), "data_offsets is missing"},
      {file_of(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8,9]}})", eight), "expected two whole numbers"},
      {file_of(R"({"__metadata__":{"a":1}})"), "expected a string"},
      {file_of(R"({"__metadata__":{"a":"b","a":"c"}})"), "appears twice"},
      {file_of("[]"), "must start with '{'"},
      {file_of("{}{}"), "not valid JSON"},
      {file_of(std::string("{}\0{}", 5)), "NUL"},
      {file_of("{\"a\":" + repeated("[", 5000)), "expected an object, found a list"},
      {file_of(repeated("{\"a\":", 5000)), "unknown key"},
      {file_of("{\"\xff\":1}"), "not valid JSON"},
      {file_of(R"({"\ud800":1})"), "not valid JSON"},
      {bytes_of(uint64_t{100}) + "{}", "but only 2 follow"},
      {bytes_of(~uint64_t{0}) + "{}", "the limit is 100000000"},
      {bytes_of(uint64_t{100'000'001}) + "{}", "the limit is 100000000"},
      {"", "holds 0 bytes"},
  };
}

const Registered registered({"safetensors", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
