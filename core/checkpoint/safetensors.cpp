// core/checkpoint/safetensors.cpp: bytes in, converted in small pieces.
#include "core/checkpoint/safetensors.h"

#include <fcntl.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "core/checkpoint/safetensors_header.h"

namespace shoal {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1Fu;
  const uint32_t mantissa = half & 0x3FFu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact in f32
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 31 ? 0xFFu : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

// Converts `count` elements of `In` at `raw` (any alignment).
template <class In, class Out, class Load>
void convert(const std::byte* raw, int64_t count, Out* out, Load load_in) {
  for (int64_t i = 0; i < count; ++i) {
    In value;
    std::memcpy(&value, raw + i * static_cast<int64_t>(sizeof(In)), sizeof(In));
    out[i] = static_cast<Out>(load_in(value));
  }
}

// bf16 is made from f32 only, so that an f64 is rounded as the rest of the house rounds it.
template <class Out>
void convert_piece(std::string_view dtype, const std::byte* raw, int64_t count, Out* out) {
  using Wide = std::conditional_t<std::is_same_v<Out, double>, double, float>;
  if (dtype == "F64") return convert<double>(raw, count, out, [](double v) { return static_cast<Wide>(v); });
  if (dtype == "F32") return convert<float>(raw, count, out, [](float v) { return static_cast<Wide>(v); });
  if (dtype == "F16") return convert<uint16_t>(raw, count, out, [](uint16_t v) { return Wide{half_to_float(v)}; });
  convert<bfloat16>(raw, count, out, [](bfloat16 v) { return Wide{static_cast<float>(v)}; });
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += fmt::format("{}{}", i ? ", " : "", shape[i]);
  return text + "]";
}

void check_shape(const StoredTensor& tensor, const Shape& shape, const std::filesystem::path& path) {
  bool equal = static_cast<int>(tensor.shape.size()) == shape.dims();
  for (int dim = 0; equal && dim < shape.dims(); ++dim) {
    equal = tensor.shape[static_cast<size_t>(dim)] == shape[dim];
  }
  if (!equal) {
    fail("{}: tensor \"{}\": expected shape {}, found {}; the file belongs to a model of another config", path.string(),
         tensor.name, shape, shape_text(tensor.shape));
  }
}

void check_floating(const StoredTensor& tensor, const std::filesystem::path& path) {
  for (const char* dtype : {"F64", "F32", "F16", "BF16"}) {
    if (tensor.dtype == dtype) return;
  }
  fail("{}: tensor \"{}\": expected dtype F64, F32, F16 or BF16, found {}", path.string(), tensor.name, tensor.dtype);
}

}  // namespace

namespace {

int open_for_reading(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO must not hang us
  if (fd < 0) fail("{}: cannot be opened: {}", path.string(), std::generic_category().message(errno));
  return fd;
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::filesystem::path path) : SafetensorsFile(open_for_reading(path), path) {}

SafetensorsFile::SafetensorsFile(int fd, std::filesystem::path path) : SafetensorsFile(readable_file(fd, path), path) {}

SafetensorsFile::SafetensorsFile(std::unique_ptr<ReadableFile> file, std::filesystem::path path)
    : path_(std::move(path)), file_(std::move(file)) {
  read_header();
}

void SafetensorsFile::read_header() {
  const std::string file = path_.string();
  const int64_t size = file_->bytes();
  if (size < 8) fail("{}: holds {} bytes; a safetensors file has at least 8", file, size);
  uint64_t header_bytes = 0;
  read_bytes(0, {reinterpret_cast<std::byte*>(&header_bytes), sizeof(header_bytes)});
  if (header_bytes > static_cast<uint64_t>(kMaxSafetensorsHeaderBytes)) {
    fail("{}: states a header of {} bytes; the limit is {}; it is no safetensors file", file, header_bytes,
         kMaxSafetensorsHeaderBytes);
  }
  if (header_bytes > static_cast<uint64_t>(size - 8)) {
    fail("{}: states a header of {} bytes, but only {} follow; it is truncated", file, header_bytes, size - 8);
  }
  std::string json(header_bytes, '\0');
  read_bytes(8, std::as_writable_bytes(std::span(json)));
  data_begin_ = 8 + static_cast<int64_t>(header_bytes);
  SafetensorsHeader header = parse_safetensors_header(json, size - data_begin_, file);
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
  for (size_t i = 0; i < tensors_.size(); ++i) by_name_[tensors_[i].name] = i;
}

const StoredTensor* SafetensorsFile::find_or_null(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

const StoredTensor& SafetensorsFile::find(const std::string& name) const {
  const StoredTensor* tensor = find_or_null(name);
  if (tensor == nullptr) {
    fail("{}: has no tensor \"{}\" among its {}; the file belongs to a model of another config", path_.string(), name,
         tensors_.size());
  }
  return *tensor;
}

void SafetensorsFile::read_bytes(int64_t offset, std::span<std::byte> out) const {
  const int64_t bytes = static_cast<int64_t>(out.size()), got = file_->read_some(offset, out.data(), bytes);
  if (got < bytes) fail("{}: ends at byte {}; it was cut while being read", path_.string(), offset + got);
}

template <class Out>
void SafetensorsFile::read_as(const StoredTensor& tensor, int64_t first, int64_t count, Out* out) const {
  constexpr int64_t kPiece = 1 << 16;  // elements: the conversion never doubles a tensor's memory
  const int64_t element_bytes = safetensors_bits(tensor.dtype) / 8;
  std::vector<std::byte> raw(static_cast<size_t>(std::min(kPiece, count) * element_bytes));
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    const int64_t in_piece = std::min(kPiece, count - begin);
    read_bytes(data_begin_ + tensor.begin_bytes + (first + begin) * element_bytes,
               std::span(raw).first(static_cast<size_t>(in_piece * element_bytes)));
    if (std::is_same_v<Out, bfloat16> && tensor.dtype == "BF16") {
      std::memcpy(out + begin, raw.data(), static_cast<size_t>(in_piece) * sizeof(Out));  // NaN payloads too
    } else {
      convert_piece(tensor.dtype, raw.data(), in_piece, out + begin);
    }
  }
}

void SafetensorsFile::read(const std::string& name, const Tensor& out) const {
  const StoredTensor& tensor = find(name);
  check_shape(tensor, out.shape(), path_);
  read_range(name, 0, out);
}

void SafetensorsFile::read_range(const std::string& name, int64_t begin, const Tensor& out) const {
  const StoredTensor& tensor = find(name);
  check_floating(tensor, path_);
  SHOAL_CHECK(out.device() == DeviceKind::kCpu && out.contiguous(), "{} needs dense host memory", name);
  SHOAL_CHECK(begin >= 0 && out.numel() <= tensor.numel && begin <= tensor.numel - out.numel(),
              "{}: elements [{}, {}) of {}", name, begin, begin + out.numel(), tensor.numel);
  dispatch_floating(out.dtype(), [&]<class T>(T) { read_as(tensor, begin, out.numel(), out.data<T>()); });
}

void SafetensorsFile::read_raw(const StoredTensor& tensor, int64_t begin, std::span<std::byte> out) const {
  const int64_t all = tensor.end_bytes - tensor.begin_bytes, bytes = static_cast<int64_t>(out.size());
  SHOAL_CHECK(begin >= 0 && bytes <= all && begin <= all - bytes, "{}: bytes [{}, {}) of {}", tensor.name, begin,
              begin + bytes, all);
  read_bytes(data_begin_ + tensor.begin_bytes + begin, out);
}

std::vector<float> SafetensorsFile::read_f32(const std::string& name, const Shape& shape) const {
  const StoredTensor& tensor = find(name);
  check_shape(tensor, shape, path_);
  check_floating(tensor, path_);
  std::vector<float> values(static_cast<size_t>(tensor.numel));
  read_as(tensor, 0, tensor.numel, values.data());
  return values;
}

}  // namespace shoal
