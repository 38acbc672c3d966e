// core/config/print.h: the full effective config as text that can be loaded again.
#pragma once

#include <string>

#include "core/config/load.h"

namespace shoal {

// A field that is a message whose absence is a choice of its own; any other message has its defaults where it was not
// given.
bool absence_has_meaning(const google::protobuf::FieldDescriptor& field);

enum class Origins { kOmit, kComment };

// Every field in the schema's order, with its default where it was not given. Left out: fields without a value or a
// default, messages whose absence means something (moe, yarn, mtp), and fields of the attention kind not chosen.
// kComment: each value is followed by "# where it came from".
std::string effective_config_text(const LoadedConfig& loaded, Origins origins);

}  // namespace shoal
