// core/checkpoint/safetensors_header.cpp: a strict event parser, because a tree would lose duplicate keys.
#include "core/checkpoint/safetensors_header.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "core/base/json_text.h"

namespace shoal {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kMetadataKey = "__metadata__";

// The reference's enum order: data is laid out by it, descending.
constexpr std::array<std::pair<std::string_view, int>, 22> kDtypes = {{
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
}};

int order_of(std::string_view dtype) {
  for (size_t i = 0; i < kDtypes.size(); ++i) {
    if (kDtypes[i].first == dtype) return static_cast<int>(i);
  }
  return -1;
}

// Receives the parser's events and accepts exactly the header's grammar; anything else throws.
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  HeaderReader(SafetensorsHeader& header, const std::string& file) : header_(header), file_(file) {}

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("true or false"); }
  bool number_float(number_float_t, const string_t& text) override { return unexpected(shown_text(text)); }
  bool binary(binary_t&) override { return unexpected("binary data"); }
  bool number_integer(number_integer_t value) override { return unexpected(std::to_string(value)); }  // negative
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return unexpected(std::to_string(value));
    const int64_t number = static_cast<int64_t>(value);
    if (place_ == Place::kShape) {
      if (tensor_.shape.size() == kMaxSafetensorsDims) {
        refuse(fmt::format("more than {} dimensions", kMaxSafetensorsDims));
      }
      tensor_.shape.push_back(number);
      return true;
    }
    if (place_ == Place::kOffsets && num_offsets_ < 2) {
      (num_offsets_++ == 0 ? tensor_.begin_bytes : tensor_.end_bytes) = number;
      return true;
    }
    return unexpected(std::to_string(value));
  }

  bool string(string_t& text) override {
    if (place_ == Place::kMetadata) {
      header_.metadata[key_] = text;
      return true;
    }
    if (place_ == Place::kTensor && key_ == "dtype") {
      tensor_.dtype = text;
      return true;
    }
    return unexpected("\"" + shown_text(text) + "\"");
  }

  bool start_object(size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop) {
      place_ = key_ == kMetadataKey ? Place::kMetadata : Place::kTensor;
    } else {
      return unexpected("an object");
    }
    return true;
  }

  bool key(string_t& name) override {
    key_ = name;
    if (place_ == Place::kTop) {
      if (!names_.insert(name).second) fail("{}: header: \"{}\" appears twice", file_, shown_text(name));
      tensor_ = StoredTensor{};
      tensor_.name = name;
      seen_.clear();
      num_offsets_ = 0;
    } else if (place_ == Place::kMetadata) {
      if (header_.metadata.contains(name)) refuse(fmt::format("key \"{}\" appears twice", shown_text(name)));
    } else {
      if (name != "dtype" && name != "shape" && name != "data_offsets") {
        refuse(fmt::format("unknown key \"{}\"; expected dtype, shape and data_offsets", shown_text(name)));
      }
      if (!seen_.insert(name).second) refuse(fmt::format("key \"{}\" appears twice", shown_text(name)));
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTop) {
      place_ = Place::kEnd;
      return true;
    }
    if (place_ == Place::kTensor) finish_tensor();
    place_ = Place::kTop;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ == Place::kTensor && key_ == "shape") {
      place_ = Place::kShape;
    } else if (place_ == Place::kTensor && key_ == "data_offsets") {
      place_ = Place::kOffsets;
    } else {
      return unexpected("a list");
    }
    return true;
  }
  bool end_array() override {
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    fail("{}: header is not valid JSON at byte {}: {}", file_, position, shown_text(json_problem(error.what())));
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kShape, kOffsets, kEnd };

  [[noreturn]] void refuse(const std::string& what) const {
    fail("{}: tensor \"{}\": {}", file_, shown_text(tensor_.name), what);
  }

  bool unexpected(const std::string& found) const {
    switch (place_) {
      case Place::kStart:
      case Place::kEnd: fail("{}: header: expected one object, found {}", file_, found);
      case Place::kTop: fail("{}: header: \"{}\": expected an object, found {}", file_, shown_text(key_), found);
      case Place::kMetadata:
        fail("{}: {}: \"{}\": expected a string, found {}", file_, kMetadataKey, shown_text(key_), found);
      case Place::kShape: refuse(fmt::format("shape: expected whole numbers of 0 to 2^63 - 1, found {}", found));
      case Place::kOffsets: refuse(fmt::format("data_offsets: expected two whole numbers, found {}", found));
      case Place::kTensor: refuse(fmt::format("{}: found {}", key_, found));
    }
    return false;
  }

  void finish_tensor() {
    for (const char* key : {"dtype", "shape", "data_offsets"}) {
      if (!seen_.contains(key)) refuse(fmt::format("{} is missing", key));
    }
    if (num_offsets_ != 2) refuse(fmt::format("data_offsets: expected two whole numbers, found {}", num_offsets_));
    const int64_t bits = safetensors_bits(tensor_.dtype);
    if (bits == 0) refuse(fmt::format("unknown dtype \"{}\"", shown_text(tensor_.dtype)));
    tensor_.numel = 1;
    int64_t total_bits = bits;
    for (const int64_t extent : tensor_.shape) {
      if (__builtin_mul_overflow(tensor_.numel, extent, &tensor_.numel)) refuse("shape overflows 64 bits");
    }
    if (__builtin_mul_overflow(tensor_.numel, bits, &total_bits)) refuse("shape overflows 64 bits");
    if (total_bits % 8 != 0) refuse(fmt::format("its {} bits are no whole number of bytes", total_bits));
    if (tensor_.end_bytes < tensor_.begin_bytes || tensor_.end_bytes - tensor_.begin_bytes != total_bits / 8) {
      refuse(fmt::format("shape and dtype {} need {} bytes, data_offsets [{}, {}] give {}", tensor_.dtype,
                         total_bits / 8, tensor_.begin_bytes, tensor_.end_bytes,
                         tensor_.end_bytes - tensor_.begin_bytes));
    }
    header_.tensors.push_back(std::move(tensor_));
  }

  SafetensorsHeader& header_;
  const std::string& file_;
  Place place_ = Place::kStart;
  std::string key_;
  StoredTensor tensor_;
  int num_offsets_ = 0;
  std::set<std::string> seen_;
  std::unordered_set<std::string> names_;
};

void check_coverage(SafetensorsHeader& header, int64_t data_bytes, const std::string& file) {
  std::sort(header.tensors.begin(), header.tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::tie(a.begin_bytes, a.end_bytes, a.name) < std::tie(b.begin_bytes, b.end_bytes, b.name);
  });
  int64_t end = 0;
  for (const StoredTensor& tensor : header.tensors) {
    if (tensor.begin_bytes != end) {
      fail("{}: tensor \"{}\": its data begins at byte {}, expected {} (tensors may neither overlap nor leave holes)",
           file, shown_text(tensor.name), tensor.begin_bytes, end);
    }
    end = tensor.end_bytes;
  }
  if (end != data_bytes) {
    fail("{}: the header describes {} bytes of data, the file holds {}; it is truncated or has bytes behind its end",
         file, end, data_bytes);
  }
}

}  // namespace

std::string_view safetensors_name(DType dtype) {
  switch (dtype) {
    case DType::kF64: return "F64";
    case DType::kF32: return "F32";
    case DType::kBF16: return "BF16";
    case DType::kI64: return "I64";
    case DType::kI32: return "I32";
    case DType::kU8: return "U8";
    case DType::kE4M3: return "F8_E4M3";
  }
  fail("no safetensors name for dtype {}", static_cast<int>(dtype));
}

int64_t safetensors_bits(std::string_view dtype) {
  const int order = order_of(dtype);
  return order < 0 ? 0 : kDtypes[static_cast<size_t>(order)].second;
}

SafetensorsHeader parse_safetensors_header(std::string_view json, int64_t data_bytes, const std::string& file) {
  if (json.empty() || json.front() != '{') fail("{}: the header must start with '{{'", file);
  // The JSON library takes a NUL for the end of its input: what follows would be accepted unseen.
  if (json.find('\0') != std::string_view::npos) fail("{}: the header holds a NUL byte", file);
  SafetensorsHeader header;
  HeaderReader reader(header, file);
  Json::sax_parse(json.begin(), json.end(), &reader);
  check_coverage(header, data_bytes, file);
  return header;
}

void sort_as_in_file(std::vector<NamedTensor>& tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const NamedTensor& a, const NamedTensor& b) {
    const int order_a = order_of(safetensors_name(a.dtype));
    const int order_b = order_of(safetensors_name(b.dtype));
    return order_a != order_b ? order_a > order_b : a.name < b.name;
  });
}

std::string make_safetensors_header(std::vector<NamedTensor>& tensors,
                                    const std::map<std::string, std::string>& metadata) {
  sort_as_in_file(tensors);
  const auto quoted = [](const std::string& text) {
    try {
      return Json(text).dump();
    } catch (const Json::exception&) {
      fail("safetensors: a name or metadata value is not UTF-8 (it begins \"{}\")",
           Json(text.substr(0, 40)).dump(-1, ' ', true, Json::error_handler_t::replace));
    }
  };
  std::string header = "{";
  if (!metadata.empty()) {
    header += fmt::format("\"{}\":{{", kMetadataKey);
    const char* comma = "";
    for (const auto& [key, value] : metadata) {
      header += fmt::format("{}{}:{}", std::exchange(comma, ","), quoted(key), quoted(value));
    }
    header += "}";
  }
  std::unordered_set<std::string_view> names;
  int64_t begin = 0;
  for (const NamedTensor& tensor : tensors) {
    SHOAL_CHECK(tensor.name != kMetadataKey && names.insert(tensor.name).second, "tensor name \"{}\" appears twice",
                tensor.name);
    std::string shape;
    for (int dim = 0; dim < tensor.shape.dims(); ++dim) shape += fmt::format("{}{}", dim ? "," : "", tensor.shape[dim]);
    const int64_t end = begin + tensor.shape.numel() * size_of(tensor.dtype);
    header +=
        fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", header.size() > 1 ? "," : "",
                    quoted(tensor.name), safetensors_name(tensor.dtype), shape, begin, end);
    begin = end;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return header;
}

}  // namespace shoal
