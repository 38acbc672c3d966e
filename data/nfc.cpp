// data/nfc.cpp: utf8proc, only where characters are that can change.
#include "data/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "core/base/check.h"

namespace shoal {
namespace {

// Nothing below U+0300 changes by itself; in UTF-8 those begin with a byte below CC.
bool may_change(char c) { return static_cast<unsigned char>(c) >= 0xCC; }
bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }

void append_nfc(std::string_view part, std::string& to) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(part.data()), static_cast<utf8proc_ssize_t>(part.size()),
                   &result, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owned(result, &std::free);
  if (length < 0) fail("cannot bring {} bytes of text to NFC: {}", part.size(), utf8proc_errmsg(length));
  to.append(reinterpret_cast<const char*>(result), static_cast<size_t>(length));
}

}  // namespace

std::string to_nfc(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  size_t done = 0;
  for (;;) {
    const auto* const changes = std::find_if(text.begin() + done, text.end(), may_change);
    if (changes == text.end()) break;
    // From the ASCII character before (a mark may join it) to the one behind (which joins nothing before it).
    size_t begin = static_cast<size_t>(changes - text.begin());
    while (begin > done && !is_ascii(text[begin])) --begin;
    const auto end = static_cast<size_t>(std::find_if(changes, text.end(), is_ascii) - text.begin());
    result += text.substr(done, begin - done);
    append_nfc(text.substr(begin, end - begin), result);
    done = end;
  }
  result += text.substr(done);
  return result;
}

}  // namespace shoal
