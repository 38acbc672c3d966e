// core/config/text_tokens.cpp: protobuf's tokenizer, and a stack of the messages that are open.
#include "core/config/text_tokens.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <cctype>
#include <map>

namespace shoal {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
namespace io = google::protobuf::io;

constexpr int kTabWidth = 8;  // what protobuf's tokenizer assumes

// The parser, which reads the same text, reports what is wrong with it.
class IgnoreErrors : public io::ErrorCollector {
 public:
  void AddError(int, io::ColumnNumber, const std::string&) override {}
};

std::vector<TextToken> split(const std::string& text) {
  IgnoreErrors errors;
  io::ArrayInputStream input(text.data(), static_cast<int>(text.size()));
  io::Tokenizer tokenizer(&input, &errors);
  // As google::protobuf::TextFormat sets it up.
  tokenizer.set_allow_f_after_float(true);
  tokenizer.set_comment_style(io::Tokenizer::SH_COMMENT_STYLE);
  tokenizer.set_require_space_after_number(false);
  tokenizer.set_allow_multiline_strings(true);

  std::vector<TextToken> tokens;
  bool more = true;
  while (more) {
    more = tokenizer.Next();
    const io::Tokenizer::Token& current = tokenizer.current();
    TextToken& token = tokens.emplace_back();
    token.text = current.text;
    token.raw_line = current.line;
    token.raw_column = current.column;
    token.line = current.line + 1;
    token.column = byte_column(text, current.line, current.column);
    token.is_end = !more;
  }
  return tokens;
}

struct OpenMessage {
  const Descriptor* message = nullptr;
  std::string path;
  const FieldDescriptor* field = nullptr;
  std::string field_path;
  std::map<std::string, int> num_elements = {};  // by field name

  void name(const std::string& field_name) {
    field = message != nullptr ? message->FindFieldByName(field_name) : nullptr;
    field_path = path.empty() ? field_name : path + "." + field_name;
  }
  OpenMessage open() {
    OpenMessage inner;
    inner.message = field != nullptr ? field->message_type() : nullptr;
    inner.path = field_path;
    if (field != nullptr && field->is_repeated()) {
      inner.path += "[" + std::to_string(num_elements[field->name()]++) + "]";
    }
    return inner;
  }
};

bool is_word(const std::string& text) {
  return !text.empty() && (std::isalpha(static_cast<unsigned char>(text[0])) != 0 || text[0] == '_');
}

}  // namespace

int byte_column(const std::string& text, int raw_line, int raw_column) {
  size_t begin = 0;
  for (int line = 0; line < raw_line && begin != std::string::npos; ++line) {
    begin = text.find('\n', begin);
    if (begin != std::string::npos) ++begin;
  }
  if (begin == std::string::npos) return raw_column + 1;
  int bytes = 0;
  for (int column = 0; column < raw_column; ++bytes) {
    const size_t at = begin + static_cast<size_t>(bytes);
    const bool tab = at < text.size() && text[at] == '\t';
    column += tab ? kTabWidth - column % kTabWidth : 1;
  }
  return bytes + 1;
}

std::vector<TextToken> read_tokens(const std::string& text, const Descriptor& root) {
  std::vector<TextToken> tokens = split(text);
  std::vector<OpenMessage> stack(1);
  stack.back().message = &root;
  for (size_t i = 0; i < tokens.size(); ++i) {
    TextToken& token = tokens[i];
    const std::string next = i + 1 < tokens.size() ? tokens[i + 1].text : "";
    // A word that a value follows is a name; any other is a value.
    token.names_field = is_word(token.text) && (next == ":" || next == "{" || next == "<");
    if (token.names_field) stack.back().name(token.text);
    token.message = stack.back().message;
    token.field = stack.back().field;
    token.message_path = stack.back().path;
    token.path = stack.back().field_path;
    if (token.text == "{" || token.text == "<") {
      stack.push_back(stack.back().open());
      token.opened_path = stack.back().path;
    }
    if ((token.text == "}" || token.text == ">") && stack.size() > 1) stack.pop_back();
  }
  return tokens;
}

}  // namespace shoal
