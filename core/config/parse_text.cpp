// core/config/parse_text.cpp: protobuf's parser, with its complaints put into this schema's words.
#include "core/config/parse_text.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <optional>

#include "core/config/suggest.h"
#include "core/config/text_tokens.h"

namespace shoal {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using Tokens = std::vector<TextToken>;

// The parser stops at its first error.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column, const std::string& message) override {
    if (found) return;
    found = true;
    raw_line = line;
    raw_column = column;
    text = message;
  }
  bool found = false;
  int raw_line = 0;
  int raw_column = 0;
  std::string text;
};

bool starts_with(const std::string& text, const std::string& start) { return text.rfind(start, 0) == 0; }

// The n-th text in double quotes of a message.
std::string quoted(const std::string& message, int n) {
  size_t begin = 0;
  for (int quote = 0; quote < 2 * n + 1; ++quote) {
    begin = message.find('"', begin);
    if (begin == std::string::npos) return {};
    ++begin;
  }
  return message.substr(begin, message.find('"', begin) - begin);
}

[[noreturn]] void throw_at(const TextToken& token, const std::string& message) {
  throw ParseError({token.line, token.column}, message);
}

std::string as_found(const TextToken& token) { return token.is_end ? "the end" : fmt::format("`{}`", token.text); }

// Errors the parser reports at the token behind the word they are about.
void explain_word_before(const Descriptor& root, const Tokens& tokens, size_t at, const std::string& error) {
  const bool unknown_field = error.find(" has no field named ") != std::string::npos;
  const bool unknown_value = starts_with(error, "Unknown enumeration value of ");
  const bool wrong_bool = starts_with(error, "Invalid value for boolean field ");
  const bool twice = error.find("is specified multiple times") != std::string::npos;
  if (!unknown_field && !unknown_value && !wrong_bool && !twice) return;

  const std::string word = quoted(error, unknown_field || wrong_bool ? 1 : 0);
  while (at > 0 && tokens[at].text != word) --at;
  const TextToken& token = tokens[at];
  if (token.text != word || token.message == nullptr) return;
  if (unknown_field) throw_at(token, no_such_field(root, *token.message, token.message_path, word));
  if (unknown_value || wrong_bool) {
    // `kind: heads: 2`: the value looks like the name of a field, which it is taken for.
    const TextToken& owner = at >= 2 && tokens[at - 1].text == ":" ? tokens[at - 2] : token;
    if (owner.field == nullptr) return;
    if (wrong_bool) throw_at(token, fmt::format("{} is true or false; found `{}`", owner.path, word));
    if (owner.field->enum_type() != nullptr) throw_at(token, no_such_value(*owner.field, owner.path, word));
    return;
  }
  if (token.field == nullptr) return;
  throw_at(token, fmt::format("{} is given twice in one text; keep one of them", token.path));
}

// Errors at the token they are about.
void explain_word_at(const Tokens& tokens, size_t at, const std::string& error) {
  const TextToken& token = tokens[at];
  if (token.is_end && !token.message_path.empty()) {
    throw_at(token, fmt::format("the text ends inside {} {{ … }}; a closing `}}` is missing", token.message_path));
  }
  if (token.text == "}" && token.message_path.empty() && starts_with(error, "Expected identifier")) {
    throw_at(token, "this `}` closes nothing; there is one too many, or a `{` is missing");
  }
  const std::string before = at > 0 ? tokens[at - 1].text : "";
  const bool is_value = before == ":" || before == "-" || before == "[";
  if (!is_value || token.field == nullptr) return;
  if (starts_with(error, "Integer out of range") && token.field->cpp_type() != FieldDescriptor::CPPTYPE_BOOL) {
    const bool narrow = token.field->cpp_type() == FieldDescriptor::CPPTYPE_INT32;
    throw_at(token, fmt::format("{} is {} of {} bits; {}{} is out of range", token.path, expected_value(*token.field),
                                narrow ? 32 : 64, before == "-" ? "-" : "", token.text));
  }
  throw_at(token, fmt::format("{} is {}; found {}", token.path, expected_value(*token.field), as_found(token)));
}

[[noreturn]] void explain(const Descriptor& root, const std::string& text, const Tokens& tokens,
                          const FirstError& error) {
  for (size_t at = 0; at < tokens.size(); ++at) {
    if (tokens[at].raw_line != error.raw_line || tokens[at].raw_column != error.raw_column) continue;
    explain_word_before(root, tokens, at, error.text);
    explain_word_at(tokens, at, error.text);
    break;
  }
  throw ParseError({error.raw_line + 1, byte_column(text, error.raw_line, error.raw_column)}, error.text);
}

}  // namespace

std::string expected_value(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64: return "an integer";
    case FieldDescriptor::CPPTYPE_UINT32:
    case FieldDescriptor::CPPTYPE_UINT64: return "an integer from 0 up";
    case FieldDescriptor::CPPTYPE_FLOAT:
    case FieldDescriptor::CPPTYPE_DOUBLE: return "a number";
    case FieldDescriptor::CPPTYPE_BOOL: return "true or false";
    case FieldDescriptor::CPPTYPE_STRING: return "a text in quotes";
    case FieldDescriptor::CPPTYPE_MESSAGE: return "a message, { … }";
    case FieldDescriptor::CPPTYPE_ENUM: break;
  }
  std::vector<std::string> values;
  for (int i = 0; i < field.enum_type()->value_count(); ++i) values.push_back(field.enum_type()->value(i)->name());
  return join_choices(values);
}

TextPlaces parse_text(const std::string& text, google::protobuf::Message& root) {
  TextPlaces found;
  FirstError error;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  const bool ok = parser.ParseFromString(text, &root);
  const Descriptor& descriptor = *root.GetDescriptor();
  const Tokens tokens = read_tokens(text, descriptor);
  if (!ok) explain(descriptor, text, tokens, error);
  for (const TextToken& token : tokens) {
    if (token.names_field) found.places[token.path] = {token.line, token.column};
    if (token.names_field && token.field != nullptr && token.field->is_repeated()) found.lists.insert(token.path);
    if (!token.opened_path.empty()) found.places.emplace(token.opened_path, TextPlace{token.line, token.column});
  }
  return found;
}

ParsedText parse_text(const std::string& text) {
  ParsedText parsed;
  static_cast<TextPlaces&>(parsed) = parse_text(text, parsed.config);
  return parsed;
}

}  // namespace shoal
