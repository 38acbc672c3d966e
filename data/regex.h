// data/regex.h: the regular expressions of tokenizer.json, run by PCRE2's just-in-time compiler.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace shoal {

// Immutable and thread-safe once made.
class Regex {
 public:
  struct Match {
    size_t begin = 0;
    size_t end = 0;
  };

  // What one thread needs to search: any Regex, one search at a time.
  class Scratch {
   public:
    Scratch();
    ~Scratch();
    Scratch(Scratch&& other) noexcept;
    Scratch& operator=(Scratch&&) = delete;

   private:
    friend class Regex;
    void* match_data_ = nullptr;
  };

  // `pattern` as Oniguruma reads it (data/regex_syntax.h), in UTF-8. Throws Error, naming `place`, for one that is
  // malformed, larger than 64 KiB, or would mean something else to PCRE2.
  Regex(std::string_view pattern, const std::string& place);
  ~Regex();
  Regex(Regex&& other) noexcept;
  Regex& operator=(Regex&&) = delete;

  // The first match that begins at or after `from`; false when there is none. Looks at nothing outside `text`, valid
  // UTF-8. Throws Error for a pattern that backtracks beyond a limit.
  bool find(std::string_view text, size_t from, Scratch& scratch, Match& match) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
  std::string place_;
};

}  // namespace shoal
