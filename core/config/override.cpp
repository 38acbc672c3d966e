// core/config/override.cpp: the override is written as text format, and parsed as such.
#include "core/config/override.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/stubs/strutil.h>

#include <sstream>
#include <vector>

#include "core/config/suggest.h"
#include "core/config/text_tokens.h"

namespace shoal {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

// The field at the end of a path; every step on the way is a message that is not in a list.
const FieldDescriptor& find_field(const Descriptor& root, const std::string& path) {
  const Descriptor* message = &root;
  const FieldDescriptor* field = nullptr;
  std::string passed;
  std::istringstream steps(path);
  for (std::string step; std::getline(steps, step, '.');) {
    if (message == nullptr) fail("{} is {} and has no field `{}`", passed, expected_value(*field), step);
    if (field != nullptr && field->is_repeated()) {
      fail("{0} is a list; give the whole of it, as in {0}=[{{…}}, {{…}}]", passed);
    }
    field = message->FindFieldByName(step);
    if (field == nullptr) throw Error(no_such_field(root, *message, passed, step));
    passed += (passed.empty() ? "" : ".") + step;
    message = field->message_type();
  }
  if (field == nullptr || path.back() == '.') fail("expected path=value, such as train.steps=60");
  return *field;
}

bool is_quoted(const std::string& value) {
  return value.size() >= 2 && (value[0] == '"' || value[0] == '\'') && value.back() == value[0];
}

// Whether the text is one value: a scalar with its sign, or one group in brackets.
bool is_one_value(const Descriptor& root, const std::string& value) {
  const std::vector<TextToken> tokens = read_tokens(value, root);
  const size_t count = tokens.size() - 1;  // without the end
  const std::string& first = tokens[0].text;
  if (first != "{" && first != "[" && first != "<") return count == (first == "-" ? 2U : 1U);
  int depth = 0;
  for (size_t i = 0; i < count; ++i) {
    const std::string& text = tokens[i].text;
    if (text == "{" || text == "[" || text == "<") ++depth;
    if (text == "}" || text == "]" || text == ">") --depth;
    if (depth == 0 && i + 1 < count) return false;
  }
  return depth == 0;
}

std::string nested_text(const std::string& path, const std::string& value) {
  std::string text;
  std::string closing;
  size_t begin = 0;
  for (size_t dot = path.find('.'); dot != std::string::npos; begin = dot + 1, dot = path.find('.', begin)) {
    text += path.substr(begin, dot - begin) + " { ";
    closing += " }";
  }
  // The line break ends a comment behind the value.
  return text + path.substr(begin) + ": " + value + "\n" + closing;
}

}  // namespace

TextPlaces parse_override(const std::string& text, google::protobuf::Message& root) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) fail("expected path=value, such as train.steps=60");
  const std::string path = text.substr(0, equals);
  std::string value = text.substr(equals + 1);
  const FieldDescriptor& field = find_field(*root.GetDescriptor(), path);

  const bool is_list = field.is_repeated() && value.starts_with('[');
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING && !is_list) {
    if (!is_quoted(value)) value = "\"" + google::protobuf::CEscape(value) + "\"";
  } else if (value.find_first_not_of(" \t\n") == std::string::npos) {
    fail("{} has no value behind '='; it is {}", path, expected_value(field));
  } else if (!is_one_value(*root.GetDescriptor(), value)) {
    fail("{} is {}{}; found `{}`", path, field.is_repeated() ? "a list, [{…}, {…}], or one element of it: " : "",
         expected_value(field), value);
  }
  TextPlaces parsed = parse_text(nested_text(path, value), root);
  // The messages around it were not given by this override.
  std::erase_if(parsed.places, [&](const auto& place) { return path.rfind(place.first + ".", 0) == 0; });
  return parsed;
}

ParsedText parse_override(const std::string& text) {
  ParsedText parsed;
  static_cast<TextPlaces&>(parsed) = parse_override(text, parsed.config);
  return parsed;
}

}  // namespace shoal
