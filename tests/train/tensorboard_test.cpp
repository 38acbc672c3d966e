// tests/train/tensorboard_test.cpp: golden bytes, and a file read back record by record.
#include "core/train/tensorboard.h"

#include <catch2/catch.hpp>

#include <cstring>
#include <limits>
#include <vector>

#include "core/base/check.h"
#include "tests/temporary_folder.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;
using namespace tensorboard;

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

template <class T>
T number_at(const std::string& bytes, size_t at) {
  T value;
  REQUIRE(at + sizeof(T) <= bytes.size());
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

// The events of a file, every length and checksum checked.
std::vector<std::string> events_in(const std::string& bytes) {
  std::vector<std::string> events;
  size_t at = 0;
  while (at < bytes.size()) {
    const uint64_t length = number_at<uint64_t>(bytes, at);
    CHECK(number_at<uint32_t>(bytes, at + 8) == masked_crc32c(bytes.substr(at, 8)));
    events.push_back(bytes.substr(at + 12, length));
    CHECK(number_at<uint32_t>(bytes, at + 12 + length) == masked_crc32c(events.back()));
    at += 16 + length;
  }
  return events;
}

TEST_CASE("CRC-32C has its published check value") {
  CHECK(crc32c("123456789") == 0xE3069283u);
  CHECK(masked_crc32c("123456789") == 0xC78AB0E5u);
  CHECK(crc32c("") == 0u);
}

TEST_CASE("events and records have the golden bytes") {
  CHECK(hex(version_event(1700000000.0)) == "0900000040fc54d9411a0d627261696e2e4576656e743a32");
  CHECK(hex(record(version_event(1700000000.0))) ==
        "1800000000000000a37f4b220900000040fc54d9411a0d627261696e2e4576656e743a32eced8f9d");
  const std::vector<Scalar> loss = {{"loss", 2.5}};
  CHECK(hex(scalars_event(1700000001.5, 10, loss)) == "0900006040fc54d941100a2a0d0a0b0a046c6f73731500002040");
  CHECK(hex(record(scalars_event(1700000001.5, 10, loss))) ==
        "1a00000000000000129bd82d0900006040fc54d941100a2a0d0a0b0a046c6f737315000020404558d687");
}

TEST_CASE("a step of 0 is left out, a large one is a varint, several values share a summary") {
  const std::vector<Scalar> two = {{"a", 1}, {"b", -1}};
  CHECK(hex(scalars_event(0, 0, two)) ==
        "090000000000000000"
        "2a14"
        "0a080a0161150000803f"
        "0a080a016215000080bf");
  CHECK(hex(scalars_event(0, 300, {})) ==
        "090000000000000000"
        "10ac02"
        "2a00");
}

TEST_CASE("a session that begins behind a step tells TensorBoard what no longer counts") {
  CHECK(hex(session_start_event(0, 7)) ==
        "090000000000000000"
        "1008"    // steps from 8 on are purged
        "3a02"    // session_log
        "0801");  // START
  const TemporaryFolder folder;
  TensorboardWriter writer(folder / "tensorboard");
  const std::vector<Scalar> loss = {{"train/loss", 4.5}};
  for (const int64_t step : {8, 9}) writer.scalars(step, loss);
  writer.start_session(7);
  writer.scalars(8, loss);
  const std::vector<std::string> events = events_in(bytes_of_file(writer.path()));
  REQUIRE(events.size() == 5);
  CHECK(hex(events[3]).ends_with("10083a020801"));
}

TEST_CASE("a text panel is a string tensor for the text plugin") {
  // Value{1 "t", 8 Tensor{1: 7, 2 {2 {1: 1}}, 8 "# x"}, 9 Metadata{1 {1 "text"}, 4: 2}}
  CHECK(hex(text_event(0, 1, "t", "# x")) ==
        "090000000000000000"
        "1001"
        "2a20"
        "0a1e"
        "0a0174"
        "420d"
        "0807"
        "12041202080142032320"
        "78"
        "4a0a"
        "0a060a0474657874"
        "2002");
}

TEST_CASE("a writer's file holds whole, checked records in order") {
  const TemporaryFolder folder;
  TensorboardWriter writer(folder / "tensorboard");
  const std::vector<Scalar> values = {{"train/loss", 4.5}, {"train/nan", std::numeric_limits<double>::quiet_NaN()}};
  writer.scalars(7, values);
  writer.text(8, "config", std::string(5000, 'c'));
  const std::vector<std::string> events = events_in(bytes_of_file(writer.path()));
  REQUIRE(events.size() == 3);
  CHECK_THAT(events[0], Contains("brain.Event:2"));
  CHECK_THAT(events[1], Contains("train/loss") && Contains("train/nan"));
  CHECK_THAT(events[2], Contains(std::string(5000, 'c')));
  CHECK_THAT(writer.path().filename().string(), Contains("events.out.tfevents."));
}

TEST_CASE("two writers in one folder have files of their own") {
  const TemporaryFolder folder;
  TensorboardWriter first(folder.path());
  TensorboardWriter second(folder.path());
  CHECK(first.path() != second.path());
}

TEST_CASE("a folder that cannot be made is named") {
  const TemporaryFolder folder;
  make_file(folder / "file", "");
  CHECK_THROWS_WITH(TensorboardWriter(folder / "file/tensorboard"), Contains("tensorboard: cannot be created"));
}

}  // namespace
}  // namespace shoal
