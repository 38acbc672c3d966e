// data/regex_syntax.cpp: a walk over a pattern, construct by construct.
#include "data/regex_syntax.h"

#include <charconv>
#include <cstdint>

#include "core/base/check.h"
#include "core/base/json_text.h"

namespace shoal {
namespace {

// Unicode's White_Space, as it stands inside a class.
constexpr std::string_view kWhiteSpace =
    R"(\t-\r\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& place) : pattern_(pattern), place_(place) {}

  std::string translate() {
    while (at_ < pattern_.size()) {
      switch (pattern_[at_]) {
        case '\\': escape(Where::kOutside); break;
        case '[': character_class(); break;
        case '(': group(); break;
        case '{': repeat(); break;
        default: out_ += pattern_[at_++];
      }
    }
    return std::move(out_);
  }

 private:
  enum class Where { kOutside, kInClass };

  char peek(size_t ahead) const { return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0'; }

  [[noreturn]] void refuse(size_t length, std::string_view why) const {
    fail("{}: cannot use \"{}\" at byte {} of the pattern \"{}\": {}", place_, pattern_.substr(at_, length), at_,
         shown_pattern(pattern_), why);
  }

  void copy(size_t length) {
    out_ += pattern_.substr(at_, length);
    at_ += length;
  }

  void put(std::string_view text, size_t consumed) {
    out_ += text;
    at_ += consumed;
  }

  void escape(Where where) {
    const bool in_class = where == Where::kInClass;
    const char letter = peek(1);
    switch (letter) {
      case 's': return put(in_class ? std::string(kWhiteSpace) : fmt::format("[{}]", kWhiteSpace), 2);
      case 'S': return put(in_class ? R"(\S\x{180E})" : fmt::format("[^{}]", kWhiteSpace), 2);
      case 'v': return put(R"(\x{0B})", 2);
      case 'p':
      case 'P': return property();
      case 'x':
      case 'u': return code_point();
      case 'd':
      case 'D':
      case 'r':
      case 'n':
      case 't':
      case 'f':
      case 'e':
      case 'a': return copy(2);
      case 'A':
      case 'z':
      case 'Z':
        if (!in_class) return copy(2);
        break;
      default: break;
    }
    const auto value = static_cast<unsigned char>(letter);
    const bool is_letter_or_digit =
        (value >= '0' && value <= '9') || (value >= 'A' && value <= 'Z') || (value >= 'a' && value <= 'z');
    if (at_ + 1 >= pattern_.size() || is_letter_or_digit || value < 0x20) {
      refuse(2,
             "Shoal knows \\p{…} \\P{…} \\s \\S \\d \\D \\r \\n \\t \\f \\v \\e \\a \\x \\u \\A \\z \\Z and escaped "
             "signs");
    }
    copy(2);
  }

  void property() {
    const size_t end = pattern_.find('}', at_);
    if (peek(2) != '{' || end == std::string_view::npos) refuse(3, "expected \\p{NAME}");
    copy(end + 1 - at_);
  }

  void code_point() {
    const bool braces = peek(1) == 'x' && peek(2) == '{';
    const size_t begin = at_ + (braces ? 3 : 2);
    size_t end = begin + (peek(1) == 'u' ? 4 : 2);
    if (braces) end = std::min(pattern_.find('}', at_), pattern_.size());
    uint32_t value = 0;
    const bool fits = end <= pattern_.size() && end > begin && end - begin <= 8;
    const auto result = fits ? std::from_chars(pattern_.data() + begin, pattern_.data() + end, value, 16)
                             : std::from_chars_result{nullptr, std::errc::invalid_argument};
    const bool is_surrogate = value >= 0xD800 && value <= 0xDFFF;
    if (result.ec != std::errc() || result.ptr != pattern_.data() + end || value > 0x10FFFF || is_surrogate) {
      refuse(end > begin ? end - at_ : 2, "expected a code point, like \\x{4E00}, \\u4E00 or \\x41");
    }
    if (peek(1) == 'x' && !braces && value >= 0x80) refuse(4, "it is a byte, not a character; write \\x{…}");
    put(fmt::format("\\x{{{:X}}}", value), end - at_ + (braces ? 1 : 0));
  }

  void character_class() {
    copy(1);
    if (peek(0) == '^') copy(1);
    if (peek(0) == ']') refuse(1, "a class begins with its closing bracket; escape it");
    while (peek(0) != ']') {
      if (at_ >= pattern_.size()) refuse(1, "a class has no end");
      if (peek(0) == '[') refuse(1, "a bracket inside a class; escape it if it stands for itself");
      if (peek(0) == '&' && peek(1) == '&') refuse(2, "intersections of classes are not supported");
      if (peek(0) == '\\') {
        escape(Where::kInClass);
      } else {
        copy(1);
      }
    }
    copy(1);
  }

  void group() {
    if (peek(1) == '*') refuse(2, "verbs are not supported");
    if (peek(1) != '?') return copy(1);
    for (const std::string_view known : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?-i:"}) {
      if (pattern_.substr(at_).starts_with(known)) return copy(known.size());
    }
    refuse(4, "Shoal knows the groups (?: (?= (?! (?> (?<= (?<! (?i: and (?-i:");
  }

  void repeat() {
    const size_t end = pattern_.find('}', at_);
    const std::string_view counts =
        end == std::string_view::npos ? std::string_view() : pattern_.substr(at_ + 1, end - at_ - 1);
    const size_t comma = counts.find(',');
    const bool digits_only = counts.find_first_not_of("0123456789,") == std::string_view::npos;
    if (counts.empty() || comma == 0 || !digits_only || comma != counts.rfind(',')) {
      refuse(counts.size() + 2, "expected a repeat like {2}, {1,3} or {2,}; escape a brace that stands for itself");
    }
    copy(end + 1 - at_);
    // In Oniguruma `a{2}+` repeats a repeat, and `a{2}?` makes it optional.
    if (peek(0) == '+') refuse(1, "a possessive repeat with braces is not supported");
    if (peek(0) == '?' && comma == std::string_view::npos) refuse(1, "a fixed repeat cannot be lazy");
  }

  std::string_view pattern_;
  const std::string& place_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string shown_pattern(std::string_view pattern) {
  constexpr size_t kMost = 200;
  return shown_text(pattern, kMost);
}

std::string pcre2_pattern(std::string_view pattern, const std::string& place) {
  return Translator(pattern, place).translate();
}

}  // namespace shoal
