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
// No message of ours is inside so many others; a hostile text's may be, and then paths of all of them fill the memory.
constexpr size_t kMaxDepth = 32;

// The parser, which reads the same text, reports what is wrong with it.
class IgnoreErrors : public io::ErrorCollector {
 public:
  void AddError(int, io::ColumnNumber, const std::string&) override {}
};

// byte_column() of positions that come in order, in one walk over the text.
class ColumnFinder {
 public:
  explicit ColumnFinder(const std::string& text) : text_(text) {}

  int at(int raw_line, int raw_column) {
    while (line_ < raw_line && begin_ != std::string::npos) {
      begin_ = text_.find('\n', begin_);
      if (begin_ != std::string::npos) ++begin_;
      ++line_;
      column_ = 0;
      bytes_ = 0;
    }
    if (begin_ == std::string::npos) return raw_column + 1;
    while (column_ < raw_column) {
      const size_t place = begin_ + static_cast<size_t>(bytes_);
      const bool tab = place < text_.size() && text_[place] == '\t';
      column_ += tab ? kTabWidth - column_ % kTabWidth : 1;
      ++bytes_;
    }
    return bytes_ + 1;
  }

 private:
  const std::string& text_;
  size_t begin_ = 0;  // of the line
  int line_ = 0;
  int column_ = 0, bytes_ = 0;  // within it
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
  ColumnFinder columns(text);
  bool more = true;
  while (more) {
    more = tokenizer.Next();
    const io::Tokenizer::Token& current = tokenizer.current();
    TextToken& token = tokens.emplace_back();
    token.text = current.text;
    token.raw_line = current.line;
    token.raw_column = current.column;
    token.line = current.line + 1;
    token.column = columns.at(current.line, current.column);
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
  bool too_deep = false;                         // nothing in it is followed

  void name(const std::string& field_name) {
    if (too_deep) return;
    field = message != nullptr ? message->FindFieldByName(field_name) : nullptr;
    field_path = path.empty() ? field_name : path + "." + field_name;
  }
  OpenMessage open(size_t depth) {
    OpenMessage inner;
    inner.too_deep = depth > kMaxDepth;
    if (inner.too_deep) return inner;
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
  return ColumnFinder(text).at(raw_line, raw_column);
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
      stack.push_back(stack.back().open(stack.size()));
      token.opened_path = stack.back().path;
    }
    if ((token.text == "}" || token.text == ">") && stack.size() > 1) stack.pop_back();
  }
  return tokens;
}

}  // namespace shoal
