// core/cli/text_options.h: the options shared by the subcommands that read text.
#pragma once

#include <string>
#include <vector>

#include "core/cli/command_line.h"
#include "data/text_reader.h"

namespace shoal {

struct TextFlags {
  std::vector<std::string> inputs;
  std::string split = "none";
  std::string text_key = "text";

  void add_to(Command& command) {
    command.files("--input", inputs,
                  "Text files in the order they are to be read: plain text or JSONL (told by the names .jsonl and "
                  ".ndjson), as they are or packed with gzip or zstd");
    command.choice("--split", split,
                   "What is a document in a plain text file: none (the file), blank-lines (between lines of nothing "
                   "but spaces), lines (each line); jsonl: each line is a JSON object, whatever the file's name",
                   {"none", "blank-lines", "lines", "jsonl"});
    command.option("--text-key", text_key, "JSONL: the member that holds the text");
  }

  TextReader open() const {
    return TextReader(inputs, {.format = text_format_of(split), .text_key = text_key, .jsonl_by_name = true});
  }
};

}  // namespace shoal
