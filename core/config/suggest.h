// core/config/suggest.h: what somebody may have meant who wrote a name that does not exist.
#pragma once

#include <google/protobuf/descriptor.h>

#include <string>
#include <vector>

namespace shoal {

// Letters to insert, delete, replace or swap with a neighbour to get from one name to the other.
int edit_distance(const std::string& a, const std::string& b);

// The candidate most like `name`: few edits for its length, or one contains the other. Empty when none is like it.
std::string nearest_name(const std::string& name, const std::vector<std::string>& candidates);

// "model.moe has no field `topkk`; did you mean `topk`?" Otherwise names the messages of `root` that have such a field,
// or else all fields of `message`, which stands at `path` ("": the root).
std::string no_such_field(const google::protobuf::Descriptor& root, const google::protobuf::Descriptor& message,
                          const std::string& path, const std::string& name);

// "model.attention.kind has no value `MLB`; expected GQA or MLA"
std::string no_such_value(const google::protobuf::FieldDescriptor& field, const std::string& path,
                          const std::string& name);

// "a, b or c"
std::string join_choices(const std::vector<std::string>& choices);

}  // namespace shoal
