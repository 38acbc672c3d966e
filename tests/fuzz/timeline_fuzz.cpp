// tests/fuzz/timeline_fuzz.cpp: timeline.json read back, and its table.
#include "core/base/check.h"
#include "core/train/timeline_file.h"
#include "tests/fuzz/json_fuzz.h"

namespace shoal::fuzz {

namespace {

void run(std::string_view input) {
  const Timeline timeline = read_timeline(scratch_file("timeline.json", input));
  const std::string table = timeline_table(timeline, 0, {});
  SHOAL_CHECK(!table.empty());
  timeline_table_json({timeline}, 0, {});
}

std::vector<Seed> seeds() {
  const auto event = [](const std::string& category, const std::string& times, const std::string& args) {
    return R"({"ph":"X","pid":0,"cat":")" + category + R"(",)" + times + R"(,"args":{)" + args + "}}";
  };
  const auto file = [](const std::string& events) {
    return R"({"otherData":{"config":"tiny","schedule":"off"},"traceEvents":[)" + events + "]}";
  };
  const std::string step = event("step", R"("ts":0,"dur":10)", R"("step":1)");
  const std::string name = R"({"ph":"M","pid":0,"name":"process_name","args":{"name":"rank 0"}})";
  std::vector<Seed> all = json_seeds(file(name + "," + step + "," + event("compute.gemm", R"("ts":1,"dur":2)", "") +
                                          "," + event("wait.dispatch", R"("ts":4,"dur":2)", "") + "," +
                                          event("wire.dispatch", R"("ts":2,"dur":5)", R"("bytes":100)") + "," +
                                          event("data", R"("ts":8,"dur":1)", "")),
                                     "traceEvents");
  for (const char* times :
       {R"("ts":1e308,"dur":1e308)", R"("ts":-1e308,"dur":-5)", R"("ts":"a","dur":1)", R"("ts":1)"}) {
    all.push_back(file(step + "," + event("compute.gemm", times, "") + "," + event("step", times, "")));
  }
  for (const char* args : {R"("step":1e300)", R"("step":"1")", R"("bytes":-9223372036854775809)", R"("step":null)"}) {
    all.push_back(
        file(event("step", R"("ts":0,"dur":10)", args) + "," + event("wire.dispatch", R"("ts":0,"dur":1)", args)));
  }
  all.push_back(file(R"({"ph":"X","pid":1e300,"cat":"step","ts":0,"dur":1},{"ph":"M","name":"process_name"},7,null)"));
  all.push_back(file(R"({"ph":1})"));
  all.push_back(file(R"({"ph":"X","cat":"step","ts":0,"dur":1,"args":7})"));
  all.push_back(file(""));
  return all;
}

const Registered registered({"timeline", run, seeds});

}  // namespace

}  // namespace shoal::fuzz
