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
  std::vector<Seed> all{
      file_of(R"({"__metadata__":{"format":"pt"},"a":)" + tensor("F32", "2", "0,8") + "}", eight),
      file_of(R"({"a":)" + tensor("BF16", "2,1", "0,4") + R"(,"b":)" + tensor("F16", "2", "4,8") + "}  ", eight),
      file_of(R"({"a":)" + tensor("F64", "1", "0,8") + R"(,"e":)" + tensor("I64", "0", "8,8") + "}", eight),
      file_of("{}"),
      // Overlap, hole, backwards, beyond the end, too short
      file_of(R"({"a":)" + tensor("U8", "8", "0,8") + R"(,"b":)" + tensor("U8", "8", "0,8") + "}", eight),
      file_of(R"({"a":)" + tensor("U8", "4", "0,4") + R"(,"b":)" + tensor("U8", "2", "6,8") + "}", eight),
      file_of(R"({"a":)" + tensor("U8", "4", "4,0") + "}", eight),
      file_of(R"({"a":)" + tensor("U8", "9", "0,9") + "}", eight),
      // Products that overflow; more dims than are known; extents below 0; empty ones beside huge ones
      file_of(R"({"a":)" + tensor("F32", "4294967296,4294967296", "0,0") + "}"),
      file_of(R"({"a":)" + tensor("F32", "9223372036854775807,9223372036854775807,0", "0,0") + "}"),
      file_of(R"({"a":)" + tensor("F32", "0,9223372036854775807", "0,0") + "}"),
      file_of(R"({"a":)" + tensor("F32", "1,1,1,1,1,1,1,1,1", "0,4") + "}", eight),
      file_of(R"({"a":)" + tensor("F32", "-1", "0,4") + "}", eight),
      file_of(R"({"a":)" + tensor("U8", "1", "18446744073709551615,18446744073709551616") + "}", eight),
      file_of(R"({"a":)" + tensor("F99", "1", "0,4") + "}", eight),
      // Names twice, by escapes too; keys twice, unknown, missing; what is no object
      file_of(R"({"a":)" + tensor("U8", "8", "0,8") + R"(,"\u0061":)" + tensor("U8", "0", "8,8") + "}", eight),
      file_of(R"({"a":{"dtype":"U8","dtype":"U8","shape":[8],"data_offsets":[0,8]}})", eight),
      file_of(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8],"x":1}})", eight),
      file_of(R"({"a":{"dtype":"U8","shape":[8]}})", eight),
      file_of(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8,9]}})", eight),
      file_of(R"({"__metadata__":{"a":1}})"),
      file_of(R"({"__metadata__":{"a":"b","a":"c"}})"),
      file_of("[]"),
      file_of("null"),
      file_of("{}{}"),
      file_of(std::string("{}\0{}", 5)),
      file_of("{\"a\":" + repeated("[", 5000)),
      file_of(repeated("{\"a\":", 5000)),
      file_of("{\"\xff\":1}"),
      file_of(R"({"\ud800":1})"),
      // A length that is not there, that overflows, that is too much
      bytes_of(uint64_t{100}) + "{}",
      bytes_of(~uint64_t{0}) + "{}",
      bytes_of(uint64_t{100'000'001}),
      "",
      "{}",
  };
  return all;
}

const Registered registered({"safetensors", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
