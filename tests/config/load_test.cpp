// tests/config/load_test.cpp: files and overrides are merged as promised, and every mistake is found where it is.
#include "core/config/load.h"

#include <catch2/catch.hpp>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/config/suggest.h"
#include "tests/config/expect_error.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

// A folder of config files, removed at the end.
class ConfigFolder {
 public:
  ConfigFolder() : path_(fs::temp_directory_path() / fmt::format("shoal_config_test_{}", ::getpid())) {
    fs::create_directories(path_);
  }
  ~ConfigFolder() { fs::remove_all(path_); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name) << text;
    return (path_ / name).string();
  }
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

std::string parse_error(const std::string& text) {
  return error_of([&] { parse_config(text, "a.textproto"); });
}

std::string override_error(const std::string& text) {
  const ConfigFolder folder;
  const std::string file = folder.write("a.textproto", "train { steps: 3 }\n");
  return error_of([&] { load_config({file}, {text}); });
}

Config with_overrides(const std::vector<std::string>& overrides) {
  const ConfigFolder folder;
  return load_config({folder.write("a.textproto", "train { steps: 3 }\n")}, overrides).config;
}

}  // namespace

TEST_CASE("later files win, and defaults stay", "[config]") {
  const ConfigFolder folder;
  const std::string a = folder.write("a.textproto", "model { hidden: 64 layers: 2 }\ntrain { steps: 10 }\n");
  const std::string b = folder.write("b.textproto", "# comment\n\ntrain {\n\tsteps: 20\n  global_batch: 8\n}\n");
  const LoadedConfig loaded = load_config({a, b}, {"model.layers=3"});
  CHECK(loaded.config.model().hidden() == 64);
  CHECK(loaded.config.model().layers() == 3);
  CHECK(loaded.config.train().steps() == 20);
  CHECK(loaded.config.train().global_batch() == 8);
  CHECK(loaded.config.optim().beta2() == 0.95);

  CHECK(loaded.origin("model.hidden") == a + ":1:9");
  CHECK(loaded.origin("model.layers") == "override 1 (model.layers=3)");
  CHECK(loaded.origin("train.steps") == b + ":4:2");  // a tab is one column
  CHECK(loaded.origin("train.global_batch") == b + ":5:3");
  CHECK(loaded.origin("optim.beta2") == "default");
  CHECK(loaded.nearest_origin("model.vocab") == a + ":1:1");
  CHECK(loaded.nearest_origin("optim.lr").empty());
}

TEST_CASE("a later file replaces a list whole", "[config]") {
  const ConfigFolder folder;
  const std::string a = folder.write(
      "a.textproto", "data { train { prefix: 'x' } train { prefix: 'y' weight: 2 } validation { prefix: 'v' } }");
  const std::string b = folder.write("b.textproto", "data { train: [{ prefix: 'z' }] }");
  const std::string none = folder.write("c.textproto", "data { train: [] }");

  const LoadedConfig first = load_config({a});
  REQUIRE(first.config.data().train_size() == 2);
  CHECK(first.origin("data.train[1].weight") == a + ":1:50");

  const LoadedConfig both = load_config({a, b});
  REQUIRE(both.config.data().train_size() == 1);
  CHECK(both.config.data().train(0).prefix() == "z");
  CHECK(both.config.data().validation_size() == 1);
  CHECK(both.origin("data.train[0].prefix") == b + ":1:18");
  CHECK(both.origin("data.train[1].weight") == "default");

  CHECK(load_config({a, none}).config.data().train_size() == 0);
}

TEST_CASE("overrides take what a person types", "[config]") {
  const Config config =
      with_overrides({"train.steps=60", "run.dir=runs/a", "data.tokenizer=\"a b.model\"", "optim.lr=3e-3",
                      "data.shuffle=false", "model.attention.kind=MLA",
                      "data.train=[{prefix: \"p\"}, {prefix: \"q\" weight: 2}]", "model.moe={num_experts: 8 topk: 2}",
                      "model.moe.topk=3", "generate.temperature=-1", "generate.prompt=a \"b\" # c=d"});
  CHECK(config.train().steps() == 60);
  CHECK(config.run().dir() == "runs/a");
  CHECK(config.data().tokenizer() == "a b.model");
  CHECK(config.optim().lr() == 3e-3);
  CHECK_FALSE(config.data().shuffle());
  CHECK(config.model().attention().kind() == AttentionConfig::MLA);
  REQUIRE(config.data().train_size() == 2);
  CHECK(config.data().train(1).weight() == 2);
  CHECK(config.model().moe().num_experts() == 8);
  CHECK(config.model().moe().topk() == 3);
  CHECK(config.generate().temperature() == -1);
  CHECK(config.generate().prompt() == "a \"b\" # c=d");
  CHECK(with_overrides({"generate.prompt="}).generate().has_prompt());
  const LoadedConfig text = parse_config("train { steps: 1 microbatch: 2 }", "a text", {"train.steps=60"});
  CHECK(text.config.train().steps() == 60);
  CHECK(text.config.train().microbatch() == 2);
  CHECK(text.origin("train.steps") == "override 1 (train.steps=60)");
}

TEST_CASE("a mistake in a file is found where it is", "[config]") {
  // An unknown name: the nearest in this message, or where it belongs, or what there is.
  CHECK(parse_error("modell { }") == "a.textproto:1:1: the config has no field `modell`; did you mean `model`?");
  CHECK(parse_error("model {\n  moe { topkk: 3 }\n}") ==
        "a.textproto:2:9: model.moe has no field `topkk`; did you mean `topk`?");
  CHECK(parse_error("model {\n  topk: 3\n}") ==
        "a.textproto:2:3: model has no field `topk`; it is a field of model.moe");
  CHECK(parse_error("model { num_layers: 3 }") ==
        "a.textproto:1:9: model has no field `num_layers`; did you mean `layers`?");
  CHECK(parse_error("precision { zzz: 1 }") ==
        "a.textproto:1:13: precision has no field `zzz`; its fields are compute, moments, linear, of, combine, "
        "gradient_wire, kept_attention_out");
  CHECK(parse_error("data { train { prefix: 'a' }\n train { prefx: 'b' } }") ==
        "a.textproto:2:10: data.train[1] has no field `prefx`; did you mean `prefix`?");

  // A wrong value.
  CHECK(parse_error("model { attention { kind: MLB } }") ==
        "a.textproto:1:27: model.attention.kind has no value `MLB`; expected GQA or MLA");
  CHECK(parse_error("optim { schedule { kind: 9 } }") ==
        "a.textproto:1:26: optim.schedule.kind has no value `9`; expected CONSTANT, COSINE, CONSTANT_COSINE or WSD");
  // The name of a field where a value is missing.
  CHECK(parse_error("model { attention { kind: heads: 2 } }") ==
        "a.textproto:1:27: model.attention.kind has no value `heads`; expected GQA or MLA");
  CHECK(parse_error("run { overwrite: threads: 2 }") ==
        "a.textproto:1:18: run.overwrite is true or false; found `threads`");
  CHECK(parse_error("model { attention { kind: \"MLA\" } }") ==
        "a.textproto:1:27: model.attention.kind is GQA or MLA; found `\"MLA\"`");
  CHECK(parse_error("model { hidden: \"256\" }") == "a.textproto:1:17: model.hidden is an integer; found `\"256\"`");
  CHECK(parse_error("model { hidden: 2.5 }") == "a.textproto:1:17: model.hidden is an integer; found `2.5`");
  CHECK(parse_error("model {\n\t\thidden: x }") == "a.textproto:2:11: model.hidden is an integer; found `x`");
  CHECK(parse_error("model { hidden: }") == "a.textproto:1:17: model.hidden is an integer; found `}`");
  CHECK(parse_error("model { name: foo }") == "a.textproto:1:15: model.name is a text in quotes; found `foo`");
  CHECK(parse_error("optim { lr: fast }") == "a.textproto:1:13: optim.lr is a number; found `fast`");
  CHECK(parse_error("model { tie_embeddings: yes }") ==
        "a.textproto:1:25: model.tie_embeddings is true or false; found `yes`");
  CHECK(parse_error("model { tie_embeddings: 2 }") ==
        "a.textproto:1:25: model.tie_embeddings is true or false; found `2`");
  CHECK(parse_error("model: 3") == "a.textproto:1:8: model is a message, { … }; found `3`");
  CHECK(parse_error("run { seed: -1 }") == "a.textproto:1:13: run.seed is an integer from 0 up; found `-`");
  CHECK(parse_error("parallel { data: 3000000000 }") ==
        "a.textproto:1:18: parallel.data is an integer of 32 bits; 3000000000 is out of range");
  CHECK(parse_error("model { hidden: -99999999999999999999 }") ==
        "a.textproto:1:18: model.hidden is an integer of 64 bits; -99999999999999999999 is out of range");

  // A wrong shape.
  CHECK(parse_error("model { hidden: 5\n  hidden: 6 }") ==
        "a.textproto:2:3: model.hidden is given twice in one text; keep one of them");
  CHECK(parse_error("model {\n moe {\n}\n") ==
        "a.textproto:4:1: the text ends inside model { … }; a closing `}` is missing");
  CHECK(parse_error("model { } }") ==
        "a.textproto:1:11: this `}` closes nothing; there is one too many, or a `{` is missing");
  CHECK(parse_error("model { hidden 5 }") == "a.textproto:1:16: Expected \":\", found \"5\".");
  CHECK(parse_error("model { name: \"abc\n }") == "a.textproto:1:19: String literals cannot cross line boundaries.");
}

TEST_CASE("hostile texts cost no more than their length", "[config]") {
  using Catch::Matchers::Contains;
  // A megabyte each: what takes the square of that, in time or memory, does not come back.
  const auto repeated = [](const std::string& text) {
    std::string all;
    while (all.size() < (1 << 20)) all += text;
    return all;
  };
  CHECK_THROWS_WITH(parse_config(repeated("a {"), "a"), Contains("a:1:1: the config has no field `a`"));
  CHECK_THROWS_WITH(parse_config(repeated("model {"), "a"), Contains("a:1:8: model has no field `model`"));
  CHECK_THROWS_WITH(parse_config(repeated("\n") + "x: 1", "a"), Contains("a:1048577:1: the config has no field `x`"));
  CHECK_THROWS_WITH(parse_config(repeated("\t") + "x: 1", "a"), Contains("a:1:1048577: the config has no field `x`"));
  CHECK_THROWS_WITH(parse_config(std::string(1 << 20, 'a') + ": 1", "a"), Contains("its fields are"));
  CHECK(parse_config("data {" + repeated("train { prefix: 'a' } ") + "}", "a").config.data().train_size() > 30000);
}

TEST_CASE("a mistake in an override is named", "[config]") {
  CHECK(override_error("train.step=3") ==
        "override 1 (train.step=3): train has no field `step`; did you mean `steps`?");
  CHECK(override_error("trian.steps=3") ==
        "override 1 (trian.steps=3): the config has no field `trian`; did you mean `train`?");
  CHECK(override_error("steps=3") ==
        "override 1 (steps=3): the config has no field `steps`; it is a field of train or train.timeline");
  CHECK(override_error("train.steps.more=3") ==
        "override 1 (train.steps.more=3): train.steps is an integer and has no field `more`");
  CHECK(override_error("data.train.prefix=a") ==
        "override 1 (data.train.prefix=a): data.train is a list; give the whole of it, as in data.train=[{…}, {…}]");
  CHECK(override_error("train.steps=abc") == "override 1 (train.steps=abc): train.steps is an integer; found `abc`");
  CHECK(override_error("train.steps=") ==
        "override 1 (train.steps=): train.steps has no value behind '='; it is an integer");
  CHECK(override_error("train.steps=3 global_batch: 4") ==
        "override 1 (train.steps=3 global_batch: 4): train.steps is an integer; found `3 global_batch: 4`");
  CHECK(override_error("train.steps=3 } optim { lr: 1") ==
        "override 1 (train.steps=3 } optim { lr: 1): train.steps is an integer; found `3 } optim { lr: 1`");
  CHECK(override_error("model.moe={topkk: 3}") ==
        "override 1 (model.moe={topkk: 3}): model.moe has no field `topkk`; did you mean `topk`?");
  CHECK(override_error("model.attention.kind=MHA") ==
        "override 1 (model.attention.kind=MHA): model.attention.kind has no value `MHA`; expected GQA or MLA");
  CHECK(override_error("train") == "override 1 (train): expected path=value, such as train.steps=60");
  CHECK(override_error("train.=3") == "override 1 (train.=3): expected path=value, such as train.steps=60");
}

TEST_CASE("a file that cannot be read is named", "[config]") {
  const ConfigFolder folder;
  const std::string file = folder.write("quickstart.textproto", "train { steps: 3 }\n");
  const std::string typo = folder.file("quikstart.textproto");
  CHECK(error_of([&] { load_config({typo}); }) ==
        typo + ": the config file cannot be read: No such file or directory; did you mean " + file + "?");
  CHECK(error_of([&] { load_config({"no/such/folder/x"}); }) ==
        "no/such/folder/x: the config file cannot be read: No such file or directory");
  CHECK(error_of([&] { load_config({folder.file("")}); }) ==
        folder.file("") + ": is a folder; expected a config file, such as configs/quickstart.textproto");
  CHECK(error_of([] { load_config({}); }) ==
        "no config file was given; expected at least one, such as configs/quickstart.textproto");
  CHECK(load_config({folder.write("empty.textproto", "")}).config.ByteSizeLong() == 0);
  const std::string large = folder.write("large", std::string((1 << 20) + 1, '#'));
  CHECK(error_of([&] { load_config({large}); }) ==
        "the config file " + large + " has 1048577 bytes, more than the 1048576 a sound one can have");
  CHECK_THAT(error_of([] { load_config({"/dev/null"}); }), Catch::Contains("expected a regular file"));
  const std::string binary = folder.write("binary", std::string("\x01\x02\x00\xff", 4));
  CHECK_THAT(error_of([&] { load_config({binary}); }), Catch::StartsWith(binary + ":1:1: "));
}

TEST_CASE("files and overrides are told apart", "[config]") {
  const ConfigArguments split =
      split_config_arguments({"configs/a.textproto", "train.steps=60", "./odd=name", "run.dir=x=y", "=3"});
  CHECK(split.files == std::vector<std::string>{"configs/a.textproto", "./odd=name", "=3"});
  CHECK(split.overrides == std::vector<std::string>{"train.steps=60", "run.dir=x=y"});
}

TEST_CASE("edit distance counts swaps once", "[config]") {
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("model", "model") == 0);
  CHECK(edit_distance("trian", "train") == 1);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(nearest_name("xyz", {"topk", "ffn"}).empty());
}

}  // namespace shoal
