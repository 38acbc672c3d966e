// tests/fuzz/override_fuzz.cpp: a command line's words, one a line: files told from overrides, and the overrides.
#include "core/base/check.h"
#include "core/config/load.h"
#include "core/config/validate.h"
#include "tests/fuzz/parser.h"

namespace shoal::fuzz {

namespace {

void run(std::string_view input) {
  std::vector<std::string> words;
  for (size_t begin = 0; begin <= input.size();) {
    const size_t end = std::min(input.find('\n', begin), input.size());
    words.emplace_back(input.substr(begin, end - begin));
    begin = end + 1;
  }
  const ConfigArguments arguments = split_config_arguments(words);
  SHOAL_CHECK_EQ(arguments.files.size() + arguments.overrides.size(), words.size());
  const LoadedConfig loaded = parse_config("", "a.textproto", arguments.overrides);
  validate(loaded, ConfigUse::kStep);
}

std::vector<Seed> seeds() {
  return {
      "train.steps=60\nrun.dir=runs/a\nmodel.moe={num_experts: 8 topk: 2 ffn: 64}\ndata.train=[{prefix: \"a\"}]",
      "a.textproto\nmodel={vocab: 64 hidden: 8 layers: 1 ffn: 8 attention {kind: GQA heads: 2 kv_heads: 1}}",
      "train.allow_changed=optim\ntrain.allow_changed=[\"a\", 'b']",
      "optim.lr=nan\noptim.lr=-inf",
      "optim.lr=- 1e999",
      "train.steps=",
      "train.steps==",
      "=1",
      ".=1",
      "train.=1",
      "train..steps=1",
      "train.steps.x=1",
      "data.train.prefix=a",
      "data.train[0].prefix=a",
      "train.stops=1",
      "train.steps=1 2",
      "train.steps=1 } run { dir: \"x\"",
      "run.dir=\"a\" b",
      "run.dir='",
      "run.dir=\"\\",
      "run.dir=\xff\xfe",
      std::string("run.dir=\0x", 10),
      "run={dir: \"x\"",
      "run={}}",
      "run=<dir: 'x'>",
      "run.overwrite=TRUE",
      "run.seed=18446744073709551616",
      "train.steps=1 # comment",
      "model=" + repeated("{", 3000),
      "model=" + repeated("[", 3000),
      repeated("a.", 3000) + "=1",
      "",
      "\n\n\n",
  };
}

const Registered registered({"override", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
