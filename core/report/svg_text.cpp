// core/report/svg_text.cpp: text, ticks, numbers.
#include "core/report/svg_text.h"

#include <fmt/format.h>

#include <cmath>

#include "core/train/progress.h"
#include "data/utf8.h"

namespace shoal {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// One character of well-formed UTF-8.
void append_escaped(std::string& out, std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  if (character.size() > 1) {
    const bool is_non_character = character == "\xEF\xBF\xBE" || character == "\xEF\xBF\xBF";
    out += is_non_character ? kReplacement : character;
    return;
  }
  switch (first) {
    case '&': out += "&amp;"; break;
    case '<': out += "&lt;"; break;
    case '>': out += "&gt;"; break;
    case '"': out += "&quot;"; break;
    case '\'': out += "&#39;"; break;
    case '\n':
    case '\t': out += character; break;
    default:
      if (first < 0x20) {
        out += kReplacement;
      } else {
        out += character;
      }
  }
}

size_t character_length(unsigned char first) {
  if (first < 0x80) return 1;
  if (first < 0xE0) return 2;
  return first < 0xF0 ? 3 : 4;
}

}  // namespace

std::string run_colour(size_t run) { return fmt::format("var(--run{})", run % kNumRunColours); }

std::string run_dash(size_t run) {
  constexpr std::array<const char*, 5> kDashes{"", "7 3", "2 2.5", "9 3 2 3", "14 4"};
  return kDashes[run % kDashes.size()];
}

std::string escaped(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t valid = valid_utf8_prefix(text);
    for (size_t at = 0; at < valid;) {
      const size_t length = character_length(static_cast<unsigned char>(text[at]));
      append_escaped(out, text.substr(at, length));
      at += length;
    }
    if (valid < text.size()) out += kReplacement;
    text.remove_prefix(std::min(text.size(), valid + 1));
  }
  return out;
}

double tick_step(double span, int count) {
  const double rough = std::max(span, 1e-300) / count;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) return factor * power;
  }
  return 10 * power;
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return "–";
  const double size = std::abs(value);
  // What would be rounded up to the next unit belongs there.
  if (size < 1000 - 0.5) return fmt::format("{:.3g}", value);
  if (size < 9999.5) return format_count(std::llround(value));
  constexpr std::array<std::string_view, 4> kUnits{"k", "M", "B", "T"};
  double scaled = value / 1000;
  size_t unit = 0;
  while (std::abs(scaled) >= 999.5 && unit + 1 < kUnits.size()) {
    scaled /= 1000;
    ++unit;
  }
  return std::abs(scaled) < 999.5 ? fmt::format("{:.3g}{}", scaled, kUnits[unit]) : fmt::format("{:.3g}", value);
}

}  // namespace shoal
