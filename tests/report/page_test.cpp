// tests/report/page_test.cpp: the page has every section for every run, fetches nothing, and escapes everything.
#include "core/report/page.h"

#include <catch2/catch.hpp>

#include <array>
#include <cmath>
#include <limits>

#include "core/base/check.h"
#include "core/report/read_run.h"
#include "core/report/sections.h"
#include "core/report/write_report.h"
#include "tests/report/example_run.h"
#include "tests/temporary_folder.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

constexpr std::array kSections{"overview", "loss", "schedule", "speed", "time", "experts",
                               "memory",   "fp8",  "history",  "cost",  "plan", "config"};

int64_t count(const std::string& text, const std::string& words) {
  int64_t found = 0;
  for (size_t at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) ++found;
  return found;
}

std::string page_of(const std::vector<std::string>& folders) { return report_page(read_runs(folders), "today"); }

void check_sections(const std::string& page) {
  for (const char* id : kSections) {
    INFO(id);
    CHECK(count(page, std::string("<section id=\"") + id + "\"") == 1);
  }
  for (const char* element : {"section", "svg", "figure", "table", "div", "g", "p", "h2", "h3", "details"}) {
    INFO(element);
    CHECK(count(page, std::string("<") + element + ">") + count(page, std::string("<") + element + " ") ==
          count(page, std::string("</") + element + ">"));
  }
  for (const char* fetched : {"<script", " src=\"", "href=\"http", "url(http", "@import", "<link"}) {
    CHECK_THAT(page, !Contains(fetched));
  }
}

TEST_CASE("the page of one run has every section", "[report]") {
  const TemporaryFolder folder;
  make_example_run(folder / "run");
  make_file(folder / "run/plan.json", R"({"step_s": 0.4, "tokens_per_s": 640, "memory_bytes": 2e8})");
  make_file(folder / "run/ngram.json", R"({"unigram_nats": 6.5, "bigram_nats": 4.1})");
  const std::string page = page_of({folder / "run"});
  check_sections(page);
  CHECK_THAT(page, Contains("Expert load, layers over steps") && Contains("Expert load of step 100") &&
                       Contains("bigram entropy 4.100") && Contains("experts, gradients") &&
                       Contains("MFU: model FLOPs") && Contains("dispatch") && Contains("activations"));
  CHECK_THAT(page, Contains("<td>step</td><td class=\"number\">400 ms</td><td class=\"number\">500 ms</td><td "
                            "class=\"number\">+25.0 %</td>"));
  CHECK_THAT(page, Contains("$0.08"));                               // 2 ranks, 70 s, $2 an hour
  CHECK_THAT(page, Contains("190.0 MiB") && Contains("200.0 MiB"));  // predicted, measured
  CHECK(page.size() < 400'000);
}

TEST_CASE("runs lie over each other, each with a line of its own", "[report]") {
  const TemporaryFolder folder;
  make_example_run(folder / "a");
  make_example_run(folder / "b");
  make_file(folder / "b/config.textproto", std::string(kExampleConfig) + "optim { lr: 0.01 }\n");
  const std::string page = page_of({folder / "a", folder / "b"});
  check_sections(page);
  CHECK_THAT(page, Contains("var(--run0)") && Contains("var(--run1)") && Contains("stroke-dasharray=\"7 3\""));
  CHECK_THAT(page, Contains("<td>optim.lr</td><td>0.0003</td><td>0.01</td>"));
  CHECK_THAT(page, Contains("aria-label=\"Loss, less that of a\""));
}

TEST_CASE("a run that has hardly begun has a page", "[report]") {
  const TemporaryFolder folder;
  for (const std::string& text : {std::string(), to_json(example_validation(0)) + "\n", to_json(example_step(1)) + "\n",
                                  std::string("{\"step\":1,\"tokens\":0,\"loss\":null}\n"), std::string("{")}) {
    std::filesystem::create_directories(folder / "run");
    make_file(folder / "run/metrics.jsonl", text);
    check_sections(page_of({folder / "run"}));
  }
  CHECK_THAT(page_of({folder / "run"}), Contains("metrics.jsonl:1: the last line is cut"));
}

TEST_CASE("what files say is text, never markup", "[report]") {
  const TemporaryFolder folder;
  const std::string name = "<script>alert('1')&\"";
  make_example_run(folder / name);
  make_file((folder / name).string() + "/config.textproto", "model { name: \"<img src=x>\" }");
  make_file((folder / name).string() + "/environment.json", R"({"host": "<b>", "command_line": ["</pre><script>"]})");
  make_file((folder / name).string() + "/metrics.jsonl", example_metrics(3) + "<script>\n");
  RunSummary summary = example_summary();
  summary.model = "<i>\xFF";
  summary.mfu_convention = "</p><script>";
  make_file((folder / name).string() + "/summary.json", to_json(summary));
  std::filesystem::create_directories((folder / name).string() + "/flight");
  make_file((folder / name).string() + "/flight/rank-0.jsonl", R"({"rank": 0, "host": "<u>", "phase": "<script>"})");
  const std::string page = page_of({folder / name, folder / name});
  check_sections(page);
  for (const char* markup : {"<img", "<b>", "<i>", "<u>"}) CHECK_THAT(page, !Contains(markup));
}

TEST_CASE("the file is written, or the reason is said", "[report]") {
  const TemporaryFolder folder;
  make_example_run(folder / "run");
  make_file(folder / "run/metrics.jsonl", example_metrics(3) + "{");
  const WrittenReport report = write_report({folder / "run"}, folder / "run/report.html");
  CHECK(static_cast<int64_t>(bytes_of_file(report.file).size()) == report.bytes);
  REQUIRE(report.problems.size() == 1);
  CHECK_THAT(report.problems[0], Contains("metrics.jsonl:5"));
  CHECK_THROWS_AS(write_report({folder / "run"}, folder / "no/such/folder.html"), Error);
  CHECK_NOTHROW(write_report_of_run(folder / "nowhere"));  // only warns
  write_picture({folder / "run"}, Picture::kLoss, folder / "loss.svg");
  const std::string svg = bytes_of_file(folder / "loss.svg");
  CHECK_THAT(svg, Catch::StartsWith("<svg xmlns=") && Contains("<style>") && Contains("--run0"));
  write_picture({folder / "run"}, Picture::kViolation, folder / "violation.svg");
  CHECK_THAT(bytes_of_file(folder / "violation.svg"), Contains("aria-label=\"Max violation\"") && Contains("--run0"));
  CHECK_THROWS_WITH(write_picture({folder / "run"}, Picture::kLossDifference, folder / "difference.svg"),
                    Contains("expected at least two, found 1"));
}

TEST_CASE("losses are compared after as many tokens, behind the first tenth", "[report]") {
  RunRecord first, other;
  first.name = "first";
  other.name = "other";
  for (int64_t step = 1; step <= 40; ++step) {
    StepMetrics& metrics = first.metrics.steps.emplace_back(example_step(step));
    metrics.tokens = 100 * step;
    metrics.loss = 8.0 / static_cast<double>(step);
    if (step % 2 == 1) continue;  // the other one has a batch twice as large
    other.metrics.steps.push_back(metrics);
    other.metrics.steps.back().loss += 0.25;
  }
  other.metrics.steps[5].loss = std::numeric_limits<double>::quiet_NaN();
  for (const int64_t tokens : {0, 2000, 4000}) {
    first.metrics.validations.push_back({.step = tokens / 100, .tokens = tokens, .val_loss = 5});
    other.metrics.validations.push_back({.step = tokens / 200, .tokens = tokens, .val_loss = 4.5});
  }
  const Chart chart = loss_difference_chart({first, other});
  CHECK(chart.title == "Loss, less that of first");
  REQUIRE(chart.series.size() == 3);  // the line at zero first
  const Points& training = chart.series[1].points;
  REQUIRE(training.size() == 19);  // 400, 600, … 4000 tokens
  CHECK(training.x.front() == 400);
  CHECK(training.x.back() == 4000);
  for (size_t i = 0; i < training.size(); ++i) {
    if (training.x[i] == 1200) {
      CHECK(std::isnan(training.y[i]));
    } else {
      CHECK(training.y[i] == Approx(0.25));
    }
  }
  CHECK(chart.series[2].points.x == std::vector<double>{2000, 4000});
  CHECK(chart.series[2].points.y == std::vector<double>{-0.5, -0.5});
}

}  // namespace
}  // namespace shoal
