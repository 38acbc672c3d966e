// core/config/text_tokens.h: the words of a text-format config, each with its place in the file and in the schema.
#pragma once

#include <google/protobuf/descriptor.h>

#include <string>
#include <vector>

namespace shoal {

struct TextToken {
  std::string text;  // as written; empty at the end of the file
  int line = 1;      // 1-based
  int column = 1;    // 1-based, in bytes
  // As protobuf counts: from 0, a tab reaches to the next multiple of 8.
  int raw_line = 0;
  int raw_column = 0;
  const google::protobuf::Descriptor* message = nullptr;     // the message it stands in; null behind an unknown field
  const google::protobuf::FieldDescriptor* field = nullptr;  // the field named last in that message
  std::string message_path;                                  // "model.moe", "data.train[1]"; "" at the root
  std::string path;                                          // "model.moe.topk": of `field`
  bool names_field = false;                                  // this token is the field's name
  std::string opened_path;  // for "{" and "<": of the message that begins here, "data.train[1]"
  bool is_end = false;
};

// All tokens and one for the end. Never throws: broken text gives as many tokens as can be told apart.
std::vector<TextToken> read_tokens(const std::string& text, const google::protobuf::Descriptor& root);

// protobuf's position as a 1-based column in bytes.
int byte_column(const std::string& text, int raw_line, int raw_column);

}  // namespace shoal
