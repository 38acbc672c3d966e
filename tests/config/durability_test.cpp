// tests/config/durability_test.cpp: checkpoints, resuming, faults: what is refused, and what counts as a change.
#include <catch2/catch.hpp>

#include "core/config/compare.h"
#include "core/config/load.h"
#include "core/config/validate.h"
#include "tests/config/expect_error.h"

namespace shoal {
namespace {

constexpr const char* kModel =
    "model { vocab: 32 hidden: 8 layers: 1 ffn: 16 attention { kind: GQA heads: 1 kv_heads: 1 } } data { train { "
    "prefix: \"a\" } } ";

Config config_of(const std::vector<std::string>& overrides) {
  return parse_config(kModel, "a.textproto", overrides).config;
}

std::string refusal(const std::vector<std::string>& overrides) {
  return error_of([&] { validate(parse_config(kModel, "a.textproto", overrides), ConfigUse::kTrain); });
}

bool refused(const std::string& override, const std::string& words) {
  const std::string error = refusal({override});
  INFO(error);
  return error.find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("what makes no sense of saving and going on is refused", "[config]") {
  CHECK(refusal({"checkpoint.every_steps=0", "train.resume=STEP", "train.resume_step=0"}) == "(no error)");
  CHECK(refused("checkpoint.every_steps=-1", "checkpoint.every_steps is -1; expected 0 to"));
  CHECK(refused("checkpoint.keep=1", "checkpoint.keep is 1; expected 2 to"));
  CHECK(refused("train.resume=STEP", "train.resume_step is not set; name the step"));
  // So that a restart can go back to AUTO by one more override.
  CHECK(refusal({"train.resume=STEP", "train.resume_step=3", "train.resume=AUTO"}) == "(no error)");
  CHECK(refused("train.stop_after_minutes=-1", "train.stop_after_minutes is -1"));
  CHECK(refused("train.faults.spike_window=1", "train.faults.spike_window is 1; expected 10 to"));
  CHECK(refused("train.faults.max_skips=-1", "train.faults.max_skips is -1"));
  CHECK(refused("run.watchdog.step_seconds=0", "run.watchdog.step_seconds is 0; expected more than 0"));
}

TEST_CASE("only fields of the config may be allowed to change", "[config]") {
  CHECK(refusal({"train.allow_changed=[\"optim.lr\", \"model\", \"data.train[1].weight\"]"}) == "(no error)");
  CHECK(refusal({"train.allow_changed=optim.lr"}) == "(no error)");
  CHECK(refused("train.allow_changed=optim.rate", "train.allow_changed[0] names `optim.rate`, which is no field"));
  CHECK(refused("train.allow_changed=optim.lr.peak", "optim.lr has no fields"));
  CHECK(refused("train.allow_changed=\"\"", "train.allow_changed[0] is empty"));
}

TEST_CASE("changes are listed, and those that change what is trained are told apart", "[config]") {
  CHECK(compare_configs(config_of({}), config_of({})).empty());
  // A default counts as given.
  CHECK(compare_configs(config_of({}), config_of({"train.steps=1000"})).empty());
  const auto changes = compare_configs(
      config_of({}),
      config_of({"optim.lr=0.5", "run.dir=b", "parallel.expert=2", "train.steps=3",
                 "data.train=[{prefix: \"b\"}, {prefix: \"c\"}]", "model.mtp={depth: 1}", "model.name=\"b\""}));
  std::vector<std::string> matter, others;
  for (const ConfigChange& change : changes) (change.matters ? matter : others).push_back(change.path);
  CHECK(std::count(matter.begin(), matter.end(), "optim.lr") == 1);
  CHECK(std::count(matter.begin(), matter.end(), "train.steps") == 1);
  CHECK(std::count(matter.begin(), matter.end(), "data.train[0].prefix") == 1);
  CHECK(std::count(matter.begin(), matter.end(), "data.train[1].prefix") == 1);
  CHECK(std::count(matter.begin(), matter.end(), "model.mtp.depth") == 1);
  CHECK(others == std::vector<std::string>{"model.name", "parallel.expert", "run.dir"});
  const std::string text = describe(compare_configs(config_of({}), config_of({"data.train=[]"})));
  CHECK(text.find("data.train[0].prefix: \"a\" → absent") != std::string::npos);
}

TEST_CASE("a name covers what is inside it, and nothing that only begins alike", "[config]") {
  CHECK(is_covered("optim.lr", {"optim.lr"}));
  CHECK(is_covered("optim.schedule.kind", {"train", "optim"}));
  CHECK(is_covered("data.train[1].weight", {"data.train"}));
  CHECK_FALSE(is_covered("train.steps", {"train.step"}));
  CHECK_FALSE(is_covered("optim.lr", {"optim.lr.x", ""}));
}

}  // namespace shoal
