// core/report/style.h: how the page looks, on light ground and on dark.
#pragma once

#include <string>

namespace shoal {

// The text of a <style> element; colours of runs are --run0 …, of load --low3 … --high5, of the wire --wire0 ….
std::string style_sheet();

// A picture for a README: an SVG element with the colours it needs.
std::string standalone_svg(const std::string& svg);

}  // namespace shoal
