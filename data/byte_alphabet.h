// data/byte_alphabet.h: byte-level BPE's way to write any byte as one visible character (GPT-2's table).
//
// Bytes 21-7E, A1-AC and AE-FF stand for themselves as code points; the other 68, in ascending order, for U+0100 to
// U+0143: a space is 'Ġ', a newline 'Ċ'.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace shoal {

// [256]: code point of each byte, all below U+0144.
const std::array<char32_t, 256>& byte_alphabet();

// The character of each byte of `bytes`, in UTF-8.
std::string to_byte_characters(std::string_view bytes);

// The bytes that such characters stand for; nullopt where one is outside the table. `characters`: valid UTF-8.
std::optional<std::string> from_byte_characters(std::string_view characters);

}  // namespace shoal
