// tests/fuzz/libfuzzer_entry.cpp: libFuzzer's entry, for a program with one parser. `--write-seeds=FOLDER` writes its
// seeds there and ends.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tests/fuzz/parser.h"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr std::string_view kOption = "--write-seeds=";
  for (int i = 1; i < *argc; ++i) {
    const std::string_view word = (*argv)[i];
    if (!word.starts_with(kOption)) continue;
    const std::filesystem::path folder = word.substr(kOption.size());
    int number = 0;
    for (const shoal::fuzz::Seed& seed : shoal::fuzz::parsers().at(0).seeds()) {
      shoal::make_file(folder / ("seed-" + std::to_string(number++)), seed.bytes);
    }
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (!shoal::fuzz::survives(shoal::fuzz::parsers().at(0), input)) std::abort();
  return 0;
}
