// core/config/parse_text.h: one text to a Config, with the place of every value, or the place of the mistake.
#pragma once

#include <map>
#include <set>
#include <string>

#include "core/base/check.h"
#include "core/config/config.pb.h"

namespace shoal {

struct TextPlace {
  int line = 1;    // 1-based
  int column = 1;  // 1-based, in bytes
};

struct TextPlaces {
  std::map<std::string, TextPlace> places;  // of every field that is given, by path; "data.train[0]" for elements
  std::set<std::string> lists;              // paths of the repeated fields that are given, also as an empty list
};

struct ParsedText : TextPlaces {
  Config config;
};

// what() says what is wrong, without the place.
class ParseError : public Error {
 public:
  ParseError(TextPlace place, const std::string& message) : Error(message), place_(place) {}
  const TextPlace& place() const { return place_; }

 private:
  TextPlace place_;
};

// Throws ParseError at the first mistake.
ParsedText parse_text(const std::string& text);
// The same of any message: `root` is emptied and filled.
TextPlaces parse_text(const std::string& text, google::protobuf::Message& root);

// "an integer", "a number", "true or false", "a text in quotes", "GQA or MLA", "a message: { … }"
std::string expected_value(const google::protobuf::FieldDescriptor& field);

}  // namespace shoal
