// tests/fuzz/text_reader_fuzz.cpp: documents from text and JSONL, plain or packed: a byte for the format, and the file.
#include <zlib.h>
#include <zstd.h>

#include "core/base/check.h"
#include "data/text_reader.h"
#include "tests/fuzz/parser.h"

namespace shoal::fuzz {

namespace {

void run(std::string_view input) {
  if (input.empty()) return;
  const auto format = static_cast<TextFormat>(static_cast<unsigned char>(input[0]) % 4);
  TextReader reader({scratch_file("text", input.substr(1))}, {.format = format, .text_key = "text"});
  std::string document;
  while (reader.next(document)) SHOAL_CHECK(!document.empty());
}

std::string gzip(const std::string& text) {
  z_stream stream{};
  SHOAL_CHECK(deflateInit2(&stream, 9, Z_DEFLATED, MAX_WBITS + 16, 9, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string packed(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  SHOAL_CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::string zstd(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 19));
  return packed;
}

std::vector<Seed> seeds() {
  const std::string lines = "one\n\ntwo\r\n \t\nthree",
                    json = "{\"text\":\"a \\u00e9\"}\n\n{\"id\":1,\"text\":\"b\"}\n";
  const auto jsonl = [](const std::string& text) { return std::string(1, '\3') + text; };
  std::vector<Seed> all{std::string(1, '\0') + lines, std::string(1, '\1') + lines, std::string(1, '\2') + lines};
  for (const std::string& text : {json, gzip(json), zstd(json), gzip(json) + gzip(json), zstd(json) + zstd(json)}) {
    all.push_back(jsonl(text));
  }
  const std::string much(1 << 20, 'x');  // packed: a thousandth
  for (const std::string& packed : {gzip(much), zstd(much)}) {
    all.push_back(std::string(1, '\0') + packed);
    all.push_back(std::string(1, '\0') + packed.substr(0, packed.size() / 2));
    all.push_back(std::string(1, '\0') + packed + "rest");
  }
  for (const char* line : {"[]", "{}", "{\"text\":1}", "{\"text\":null}", "{\"text\":{\"text\":\"a\"}}",
                           "{\"text\":\"\xff\"}", "{\"text\":\"\\ud800\"}", "{\"text\":\"a\",\"text\":\"b\"}",
                           "{\"text\":\"a\"} x", "\xEF\xBB\xBF{}", "{\"text\":\"a\"", "\"text\"", "1e999", "nan"}) {
    all.push_back(jsonl(line));
  }
  all.push_back(jsonl(std::string("{\"text\":\"a\"}\0{}", 15)));
  all.push_back(jsonl("{\"x\":" + repeated("[", 10000)));
  all.push_back(jsonl("{\"text\":\"a\",\"x\":" + repeated("[", 60) + repeated("]", 60) + "}"));
  return all;
}

const Registered registered({"text_reader", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
