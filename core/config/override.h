// core/config/override.h: "train.steps=60", one knob from the command line.
#pragma once

#include <string>

#include "core/config/parse_text.h"

namespace shoal {

// The same as a text that gives only this field (load.h says what may stand behind '='). Throws Error without a place:
// an unknown path with the nearest name, a value of the wrong kind, more than one value.
ParsedText parse_override(const std::string& text);
// The same of any message: `root` is emptied and filled.
TextPlaces parse_override(const std::string& text, google::protobuf::Message& root);

}  // namespace shoal
