// tests/data/text_reader_test.cpp: documents out of every kind of file, and messages out of every kind of wrong one.
#include "data/text_reader.h"

#include <catch2/catch.hpp>
#include <zlib.h>
#include <zstd.h>

#include "core/base/check.h"
#include "data/utf8.h"
#include "tests/data/temp_folder.h"

using namespace shoal;
using Catch::Matchers::Contains;

namespace {

using Documents = std::vector<std::string>;

Documents read_all(const std::vector<std::string>& paths, TextFormat format, const std::string& key = "text") {
  TextReader reader(paths, {.format = format, .text_key = key, .jsonl_by_name = true});
  Documents documents;
  std::string document;
  while (reader.next(document)) documents.push_back(document);
  return documents;
}

std::string gzip(const std::string& bytes) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string packed(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::string zstd(const std::string& bytes) {
  std::string packed(ZSTD_compressBound(bytes.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), bytes.data(), bytes.size(), 3));
  return packed;
}

}  // namespace

TEST_CASE("plain text is split as asked, and kept byte for byte") {
  const TempFolder folder;
  const std::string path = folder / "a.txt";
  const std::string text = "one\ntwo \r\n\n \t\r\n\nthree\xFF\n  four\n";
  write_bytes(path, text);
  CHECK(read_all({path}, TextFormat::kWholeFile) == Documents{text});
  CHECK(read_all({path}, TextFormat::kBlankLines) == Documents{"one\ntwo \r", "three\xFF\n  four"});
  CHECK(read_all({path}, TextFormat::kLines) == Documents{"one", "two \r", " \t\r", "three\xFF", "  four"});
}

TEST_CASE("a last line without a newline, empty files and several files") {
  const TempFolder folder;
  write_bytes(folder / "a", "x\ny");
  write_bytes(folder / "b", "");
  write_bytes(folder / "c", "\n\n\n");
  write_bytes(folder / "d", "z\n");
  const std::vector<std::string> paths = {folder / "a", folder / "b", folder / "c", folder / "d"};
  CHECK(read_all(paths, TextFormat::kWholeFile) == Documents{"x\ny", "\n\n\n", "z\n"});
  CHECK(read_all(paths, TextFormat::kLines) == Documents{"x", "y", "z"});
  CHECK(read_all(paths, TextFormat::kBlankLines) == Documents{"x\ny", "z"});
}

TEST_CASE("lines longer than the buffer are whole") {
  const TempFolder folder;
  std::string text;
  Documents expected;
  for (const size_t length : {262'143, 262'144, 262'145, 1, 1'000'000}) {
    expected.emplace_back(length, static_cast<char>('a' + expected.size()));
    text += expected.back() + "\n";
  }
  write_bytes(folder / "long", text);
  write_bytes(folder / "long.gz", gzip(text));
  write_bytes(folder / "long.zst", zstd(text));
  for (const char* name : {"long", "long.gz", "long.zst"}) {
    CHECK(read_all({folder / name}, TextFormat::kLines) == expected);
    CHECK(read_all({folder / name}, TextFormat::kWholeFile) == Documents{text});
  }
}

TEST_CASE("gzip and zstd are told by their bytes, and may follow each other in one file") {
  const TempFolder folder;
  write_bytes(folder / "a", gzip("one\ntwo\n") + gzip("three\n"));
  write_bytes(folder / "b", zstd("four\n") + zstd("fi") + zstd("ve"));
  CHECK(read_all({folder / "a", folder / "b"}, TextFormat::kLines) == Documents{"one", "two", "three", "four", "five"});
  write_bytes(folder / "c.jsonl.zst", zstd("{\"text\": \"six\"}\n"));
  CHECK(read_all({folder / "c.jsonl.zst"}, TextFormat::kWholeFile) == Documents{"six"});
}

TEST_CASE("packed files cut at any length, or damaged, are named") {
  const TempFolder folder;
  std::string text;
  for (int i = 0; i < 40; ++i) text += std::to_string(i * i) + " squared\n";
  for (const bool is_gzip : {true, false}) {
    const std::string packed = is_gzip ? gzip(text) : zstd(text);
    const std::string path = folder / "cut";
    for (size_t length = 4; length < packed.size(); ++length) {
      write_bytes(path, packed.substr(0, length));
      CHECK_THROWS_WITH(read_all({path}, TextFormat::kLines),
                        Contains("cut cannot be unpacked") && Contains("cut short"));
    }
  }
  std::string damaged = gzip(text);
  damaged[damaged.size() - 5] ^= 1;  // the checksum
  write_bytes(folder / "crc", damaged);
  CHECK_THROWS_WITH(read_all({folder / "crc"}, TextFormat::kLines), Contains("incorrect data check"));
  write_bytes(folder / "tail", gzip(text) + "no gzip");
  CHECK_THROWS_WITH(read_all({folder / "tail"}, TextFormat::kLines), Contains("incorrect header check"));
}

TEST_CASE("JSONL gives its key's strings") {
  const TempFolder folder;
  const std::string path = folder / "a.jsonl";
  write_bytes(path,
              "\xEF\xBB\xBF{\"text\": \"a\\nb\\u00e9\\ud83d\\ude00\", \"n\": [1, {\"text\": \"not this\"}]}\r\n"
              "\n"
              "{\"other\": \"o\", \"text\": \"\"}\n"
              "{\"meta\": {\"text\": 5}, \"text\": \"caf\xC3\xA9\"}");
  CHECK(read_all({path}, TextFormat::kWholeFile) == Documents{"a\nb\xC3\xA9\xF0\x9F\x98\x80", "caf\xC3\xA9"});
  write_bytes(folder / "b", "{\"body\": \"x\"}\n");
  CHECK(read_all({folder / "b"}, TextFormat::kJsonl, "body") == Documents{"x"});
}

TEST_CASE("wrong JSONL is named by file and line") {
  const TempFolder folder;
  const std::string path = folder / "bad.jsonl";
  const auto check = [&](const std::string& line, const std::string& message) {
    write_bytes(path, "{\"text\": \"fine\"}\n" + line + "\n");
    CHECK_THROWS_WITH(read_all({path}, TextFormat::kWholeFile), Contains("bad.jsonl:2: ") && Contains(message));
  };
  check("{\"text\": \"\xFF\"}", "ill-formed UTF-8");
  check("{\"text\": \"\\ud800\"}", "surrogate");
  check("{\"text\": \"x\"", "column");
  check("{\"text\": \"x\"} {\"text\": \"y\"}", "column");
  check("{\"a\": 1, \"b\": 2}", "expected the key \"text\", found \"a\", \"b\"");
  check("{\"text\": 3}", "expected a string at \"text\", found a number");
  check("{\"text\": null}", "found null");
  check("{\"text\": {\"text\": \"x\"}}", "found an object");
  check("[1]", "expected a JSON object, found an array");
  check("\"x\"", "expected a JSON object, found a string");
  check("plain words", "column 1");
  check(std::string("{\"text\": \"x\"}\0\0", 15), "byte 14 of the line is NUL");
  check("{\"text\": \"x\", \"deep\": " + std::string(100'000, '['), "nested more than 64 deep");
}

TEST_CASE("files that are not there, or no files, are named") {
  const TempFolder folder;
  CHECK_THROWS_WITH(read_all({folder / "none.txt"}, TextFormat::kLines), Contains("none.txt: No such file"));
  CHECK_THROWS_WITH(read_all({folder / "."}, TextFormat::kLines), Contains("expected a regular file"));
  CHECK_THROWS_WITH(read_all({}, TextFormat::kLines), Contains("name at least one file"));
  CHECK_THROWS_WITH(text_format_of("pages"), Contains("found \"pages\""));
}

TEST_CASE("well-formed UTF-8 is told from the rest") {
  for (const std::string good : {"", "abc", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
                                 "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "eight by\xC3\xA9te words"}) {
    CHECK(valid_utf8_prefix(good) == good.size());
  }
  for (const std::string bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2\x41", "\xE0\x9F\xBF", "\xED\xA0\x80",
                                "\xE2\x82", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF"}) {
    CHECK(valid_utf8_prefix(bad) == 0);
    CHECK(valid_utf8_prefix("12345678" + bad + "12345678") == 8);
    CHECK(valid_utf8_prefix("caf\xC3\xA9" + bad) == 5);
  }
}
