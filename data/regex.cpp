// data/regex.cpp: PCRE2 with its limits set: what a pattern from outside may cost is bounded.
#include "data/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <utility>

#include "core/base/check.h"
#include "data/regex_syntax.h"

namespace shoal {
namespace {

constexpr size_t kMaxPatternBytes = 64 << 10;
constexpr uint32_t kMaxBacktracks = 10'000'000;
constexpr uint32_t kMaxHeapKib = 64 << 10;

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct Regex::Compiled {
  pcre2_code* code = nullptr;
  pcre2_match_context* limits = nullptr;
  bool has_jit = false;

  ~Compiled() {
    pcre2_code_free(code);
    pcre2_match_context_free(limits);
  }
};

Regex::Scratch::Scratch() : match_data_(pcre2_match_data_create(1, nullptr)) {
  SHOAL_CHECK(match_data_ != nullptr, "no memory for a match");
}
Regex::Scratch::~Scratch() { pcre2_match_data_free(static_cast<pcre2_match_data*>(match_data_)); }
Regex::Scratch::Scratch(Scratch&& other) noexcept : match_data_(std::exchange(other.match_data_, nullptr)) {}

Regex::Regex(std::string_view pattern, const std::string& place)
    : compiled_(std::make_unique<Compiled>()), place_(place) {
  if (pattern.size() > kMaxPatternBytes) {
    fail("{}: a pattern of {} bytes, more than the {} a sound one can have", place, pattern.size(), kMaxPatternBytes);
  }
  const std::string translated = pcre2_pattern(pattern, place);
  const auto context = std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)>(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  SHOAL_CHECK(context != nullptr, "no memory for a pattern");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE error_at = 0;
  // Oniguruma's ^ and $ are about lines.
  compiled_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &error_at,
                                  context.get());
  if (compiled_->code == nullptr) {
    fail("{}: expected a regular expression, found \"{}\": {} (at byte {} of \"{}\")", place, shown_pattern(pattern),
         message_of(error), error_at, shown_pattern(translated));
  }
  // Without the compiler (a system that forbids it), the interpreter does the same, slowly.
  compiled_->has_jit = pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE) == 0;
  compiled_->limits = pcre2_match_context_create(nullptr);
  SHOAL_CHECK(compiled_->limits != nullptr, "no memory for a pattern");
  pcre2_set_match_limit(compiled_->limits, kMaxBacktracks);
  pcre2_set_heap_limit(compiled_->limits, kMaxHeapKib);
}

Regex::~Regex() = default;
Regex::Regex(Regex&& other) noexcept = default;

bool Regex::find(std::string_view text, size_t from, Scratch& scratch, Match& match) const {
  auto* const match_data = static_cast<pcre2_match_data*>(scratch.match_data_);
  const auto* const subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int found = PCRE2_ERROR_JIT_STACKLIMIT;
  if (compiled_->has_jit) {
    found =
        pcre2_jit_match(compiled_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, match_data, compiled_->limits);
  }
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {  // its 32 KiB are used up: the interpreter takes memory from the heap
    found = pcre2_match(compiled_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match_data,
                        compiled_->limits);
  }
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0) {
    fail("{}: the pattern cannot be run on a text of {} bytes (at byte {}): {}; it backtracks too much", place_,
         text.size(), from, message_of(found));
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match_data);
  match = {.begin = bounds[0], .end = bounds[1]};
  return true;
}

}  // namespace shoal
