// core/train/tensorboard.h: TensorBoard event files: scalars and text panels.
//
// The few protobuf messages are encoded by hand: no schema of TensorBoard's to keep, and the bytes are tested.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/checkpoint/append_file.h"

namespace shoal {

struct Scalar {
  std::string tag;  // "train/loss": the part before the slash is the panel's section
  double value = 0;
};

class TensorboardWriter {
 public:
  // Creates `directory` and a new event file in it; earlier ones are left alone (TensorBoard reads them all).
  explicit TensorboardWriter(const std::filesystem::path& directory);

  // A run goes on from this step: what earlier files say about later ones is no longer shown.
  void start_session(int64_t step);
  // One record with all of a step's values.
  void scalars(int64_t step, std::span<const Scalar> values);
  // A markdown panel.
  void text(int64_t step, const std::string& tag, const std::string& markdown);

  const std::filesystem::path& path() const { return file_->path(); }

 private:
  std::unique_ptr<AppendFile> file_;
};

// The encoding, apart so that golden bytes can be compared. `wall_time` in seconds since 1970.
namespace tensorboard {

uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);
// TFRecord framing of one event.
std::string record(std::string_view event);
std::string version_event(double wall_time);
std::string scalars_event(double wall_time, int64_t step, std::span<const Scalar> values);
std::string session_start_event(double wall_time, int64_t step);
std::string text_event(double wall_time, int64_t step, const std::string& tag, const std::string& markdown);

}  // namespace tensorboard
}  // namespace shoal
