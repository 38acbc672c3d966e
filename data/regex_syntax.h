// data/regex_syntax.h: from Oniguruma's syntax, in which tokenizer.json is written, to PCRE2's.
//
// The two agree on what tokenizers use, with exceptions: \s (PCRE2's has U+180E), \v, \u, \w and \h, inline options,
// `{2}+`, operators and brackets inside classes. What means the same is passed on, what can be written otherwise is
// rewritten, everything else is refused: better no tokens than other ones than the model was trained with.
#pragma once

#include <string>
#include <string_view>

namespace shoal {

// Throws Error, naming `place`, for a construct that is refused.
std::string pcre2_pattern(std::string_view pattern, const std::string& place);

// A pattern for messages, cut where it is long: what it becomes for PCRE2 can have fifty times its length.
std::string shown_pattern(std::string_view pattern);

}  // namespace shoal
