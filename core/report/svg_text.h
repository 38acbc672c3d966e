// core/report/svg_text.h: what pictures and the page share: text that is safe in XML, colours, ticks, numbers.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/wire.h"
#include "core/base/work.h"

namespace shoal {

// Okabe and Ito's palette, which the colour-blind can tell apart, and a little more.
constexpr std::array<const char*, kNumWorkKinds> kWorkColours{"#0072b2", "#56b4e9", "#009e73", "#999999", "#b07aa1"};
constexpr std::array<const char*, kNumWireKinds> kWireColours{"#d55e00", "#e69f00", "#cc79a7", "#6a51a3",
                                                              "#8c6d31", "#f0c419", "#555555"};

// Of the run with this number among those that are shown, as style.h defines it: "var(--run0)"; and how its lines are
// broken, where there are several, for who sees no colours: "" (not at all), "7 3", …
constexpr size_t kNumRunColours = 8;
std::string run_colour(size_t run);
std::string run_dash(size_t run);

// For text and attributes of XML and HTML, whatever the bytes are: what is no UTF-8, and what XML forbids, becomes
// U+FFFD.
std::string escaped(std::string_view text);

// The distance of ticks, 1, 2 or 5 times a power of ten, such that about `count` of them fit into `span`.
double tick_step(double span, int count);

// For axes and tables: three to four digits. "0.0123", "4.52", "1,234", "12.3k", "45.6M", "7.89B", "14.8T"; "–" for
// what is not finite.
std::string short_number(double value);

}  // namespace shoal
