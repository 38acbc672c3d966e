// tests/fuzz/parser.h: a parser of files that nobody vouches for, as a function of bytes: for libFuzzer, and for the
// corpus of hostile files that runs with the tests.
//
// To add one: NAME_fuzz.cpp that registers it, its line in CMakeLists.txt, dictionaries/NAME.dict.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/temporary_folder.h"

namespace shoal::fuzz {

// A file, and what its parser makes of it.
struct Seed {
  Seed(std::string bytes) : bytes(std::move(bytes)) {}
  Seed(const char* bytes) : bytes(bytes) {}
  Seed(std::string bytes, std::string says) : bytes(std::move(bytes)), says(std::move(says)) {}
  std::string bytes;
  std::optional<std::string> says = {};  // words of the refusal; "": it is read. None: either
};
inline const std::string kSound;

struct Parser {
  std::string name;
  // Reads the bytes as its parser would read them from a file. Throws Error for what is wrong with them, or nothing.
  std::function<void(std::string_view)> run;
  // Sound files and hostile ones, from which others are made.
  std::function<std::vector<Seed>()> seeds;
};

// What it says of the bytes; "" when it reads them. Throws what is no refusal.
std::string answer_of(const Parser& parser, std::string_view input);

// Runs it; whatever is no refusal in a sentence for people (another exception, a failed check of our own) is a
// finding, told to stderr: false.
bool survives(const Parser& parser, std::string_view input);

// All parsers of this program.
std::vector<Parser>& parsers();
struct Registered {
  explicit Registered(Parser parser) { parsers().push_back(std::move(parser)); }
};

// A file in a folder in memory (where there is one), made anew by each call.
std::string scratch_file(const std::string& name, std::string_view bytes);

// Little-endian bytes of a number, behind each other.
template <class T>
std::string bytes_of(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}
// `count` times `text`.
std::string repeated(std::string_view text, int count);

// An input of several files has this between them.
inline constexpr std::string_view kBetween = "\n=====\n";
// Takes the first part off.
std::string_view take_part(std::string_view& rest);

}  // namespace shoal::fuzz
