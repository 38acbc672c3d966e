// core/train/tensorboard.cpp: protobuf wire format, TFRecord framing, CRC-32C.
#include "core/train/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <concepts>

#include "core/base/check.h"

namespace shoal {
namespace tensorboard {
namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
    table[byte] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = make_crc_table();

template <std::unsigned_integral T>
void put_little_endian(std::string& out, T value) {
  for (size_t byte = 0; byte < sizeof(T); ++byte) out += static_cast<char>(value >> (8 * byte) & 0xFF);
}

// Protobuf's wire types: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
void put_varint(std::string& out, uint64_t value) {
  while (value >= 0x80) {
    out += static_cast<char>(value | 0x80);
    value >>= 7;
  }
  out += static_cast<char>(value);
}
void put_key(std::string& out, int field, int wire_type) {
  put_varint(out, static_cast<uint64_t>(field << 3 | wire_type));
}
void put_int(std::string& out, int field, uint64_t value) {
  put_key(out, field, 0);
  put_varint(out, value);
}
void put_double(std::string& out, int field, double value) {
  put_key(out, field, 1);
  put_little_endian(out, std::bit_cast<uint64_t>(value));
}
void put_float(std::string& out, int field, float value) {
  put_key(out, field, 5);
  put_little_endian(out, std::bit_cast<uint32_t>(value));
}
void put_bytes(std::string& out, int field, std::string_view bytes) {
  put_key(out, field, 2);
  put_varint(out, bytes.size());
  out += bytes;
}

// Event: 1 wall_time, 2 step (left out when 0), then one of 3 file_version, 5 summary.
std::string event(double wall_time, int64_t step, int field, std::string_view content) {
  std::string out;
  put_double(out, 1, wall_time);
  if (step != 0) put_int(out, 2, static_cast<uint64_t>(step));
  put_bytes(out, field, content);
  return out;
}

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFFu;
  for (const char c : bytes) crc = kCrcTable[(crc ^ static_cast<uint8_t>(c)) & 0xFF] ^ crc >> 8;
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xA282EAD8u; }

std::string record(std::string_view event) {
  std::string out;
  put_little_endian(out, static_cast<uint64_t>(event.size()));
  put_little_endian(out, masked_crc32c(out));
  out += event;
  put_little_endian(out, masked_crc32c(event));
  return out;
}

std::string version_event(double wall_time) { return event(wall_time, 0, 3, "brain.Event:2"); }

std::string scalars_event(double wall_time, int64_t step, std::span<const Scalar> values) {
  std::string summary;
  for (const Scalar& scalar : values) {
    std::string value;
    put_bytes(value, 1, scalar.tag);
    put_float(value, 2, static_cast<float>(scalar.value));
    put_bytes(summary, 1, value);
  }
  return event(wall_time, step, 5, summary);
}

// SessionLog{1 status START}. TensorBoard purges by the first event's step behind it.
std::string session_start_event(double wall_time, int64_t step) {
  std::string session;
  put_int(session, 1, 1);
  return event(wall_time, step + 1, 7, session);
}

// Value{1 tag, 8 TensorProto{1 dtype DT_STRING, 2 shape{2 dim{1 size}}, 8 string_val},
//       9 SummaryMetadata{1 PluginData{1 plugin_name}, 4 data_class TENSOR}}
std::string text_event(double wall_time, int64_t step, const std::string& tag, const std::string& markdown) {
  std::string dim, shape, tensor, plugin, metadata, value, summary;
  put_int(dim, 1, 1);
  put_bytes(shape, 2, dim);
  put_int(tensor, 1, 7);
  put_bytes(tensor, 2, shape);
  put_bytes(tensor, 8, markdown);
  put_bytes(plugin, 1, "text");
  put_bytes(metadata, 1, plugin);
  put_int(metadata, 4, 2);
  put_bytes(value, 1, tag);
  put_bytes(value, 8, tensor);
  put_bytes(value, 9, metadata);
  put_bytes(summary, 1, value);
  return event(wall_time, step, 5, summary);
}

}  // namespace tensorboard

namespace {

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "localhost";
  return name.data();
}

// The name's last number tells apart the files one process starts within a second.
std::unique_ptr<AppendFile> new_event_file(const std::filesystem::path& directory, double wall_time) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) fail("{}: cannot be created: {}", directory.string(), error.message());
  for (int uid = 0;; ++uid) {
    const auto path = directory / fmt::format("events.out.tfevents.{:010}.{}.{}.{}", static_cast<int64_t>(wall_time),
                                              host_name(), ::getpid(), uid);
    if (!std::filesystem::exists(path)) return std::make_unique<AppendFile>(path);
  }
}

}  // namespace

TensorboardWriter::TensorboardWriter(const std::filesystem::path& directory) {
  const double wall_time = tensorboard::now();
  file_ = new_event_file(directory, wall_time);
  file_->append(tensorboard::record(tensorboard::version_event(wall_time)));
}

void TensorboardWriter::start_session(int64_t step) {
  file_->append(tensorboard::record(tensorboard::session_start_event(tensorboard::now(), step)));
}

void TensorboardWriter::scalars(int64_t step, std::span<const Scalar> values) {
  file_->append(tensorboard::record(tensorboard::scalars_event(tensorboard::now(), step, values)));
}

void TensorboardWriter::text(int64_t step, const std::string& tag, const std::string& markdown) {
  file_->append(tensorboard::record(tensorboard::text_event(tensorboard::now(), step, tag, markdown)));
}

}  // namespace shoal
