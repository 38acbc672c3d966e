// tests/report/chart_test.cpp: curves lie where their values say, on axes of every kind.
#include "core/report/chart.h"

#include <catch2/catch.hpp>

#include <cmath>

#include "core/report/chart_scale.h"
#include "core/report/heat_map.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

std::vector<std::string> texts_of(const std::vector<Scale::Tick>& ticks) {
  std::vector<std::string> texts;
  for (const Scale::Tick& tick : ticks) {
    if (!tick.text.empty()) texts.push_back(tick.text);
  }
  return texts;
}

Points points_of(std::vector<double> y) {
  Points points;
  for (size_t i = 0; i < y.size(); ++i) points.add(static_cast<double>(i), y[i]);
  return points;
}

TEST_CASE("a linear axis goes through its limits, with round ticks", "[report]") {
  const Scale scale({.name = ""}, 0, 10, 100, 200);
  CHECK(scale.pixel(0) == 100);
  CHECK(scale.pixel(10) == 200);
  CHECK(scale.pixel(5) == 150);
  CHECK(texts_of(scale.ticks(5)) == std::vector<std::string>{"0", "2", "4", "6", "8", "10"});
  CHECK(texts_of(Scale({.name = "", .divide_by = 1024}, 0, 4096, 0, 1).ticks(4)) ==
        std::vector<std::string>{"0", "1", "2", "3", "4"});
  CHECK(std::isfinite(Scale({.name = ""}, 3, 3, 0, 1).pixel(3)));
}

TEST_CASE("a logarithmic axis has powers of ten, and no place for 0", "[report]") {
  const Axis axis{.name = "", .logarithmic = true};
  const Scale scale(axis, 1e-4, 1e4, 0, 80);
  CHECK(scale.pixel(1) == Approx(40));
  CHECK(scale.pixel(100) == Approx(60));
  CHECK_FALSE(scale.shows(0));
  CHECK_FALSE(scale.shows(-1));
  CHECK_FALSE(scale.shows(NAN));
  CHECK(texts_of(scale.ticks(8)).size() == 9);
  CHECK(texts_of(Scale(axis, 0.9, 12, 0, 1).ticks(5)) == std::vector<std::string>{"1", "2", "5", "10"});
  CHECK(texts_of(Scale(axis, 1e-30, 1e30, 0, 1).ticks(5)).size() <= 6);
  // Between two round numbers of a power of ten there are others.
  CHECK(texts_of(Scale(axis, 1.63, 1.88, 0, 1).ticks(5)) ==
        std::vector<std::string>{"1.65", "1.7", "1.75", "1.8", "1.85"});
}

TEST_CASE("ticks that lie close have as many digits as tell them apart, and no value is too large", "[report]") {
  CHECK(texts_of(Scale({.name = ""}, 2.930001, 2.930021, 0, 1).ticks(5)) ==
        std::vector<std::string>{"2.930005", "2.930010", "2.930015", "2.930020"});
  CHECK(texts_of(Scale({.name = ""}, 99.9, 101.1, 0, 1).ticks(3)) ==
        std::vector<std::string>{"100.0", "100.5", "101.0"});
  const std::vector<double> huge{-1.7e308, 1.7e308, 1};
  const auto [low, high] = limits_of(huge, {.name = ""});
  const Scale scale({.name = ""}, low, high, 0, 100);
  for (const double value : huge) CHECK((!scale.shows(value) || std::isfinite(scale.pixel(value))));
  CHECK(scale.shows(1));
}

TEST_CASE("limits leave room, and pass over what is not shown", "[report]") {
  CHECK(limits_of({1, 3, NAN}, {.name = ""}) == std::pair{0.9, 3.1});
  CHECK(limits_of({2, 4}, {.name = "", .from_zero = true}).first == 0);
  const auto [low, high] = limits_of({0, -5, 10, 1000}, {.name = "", .logarithmic = true});
  CHECK((low > 5 && low < 10));
  CHECK((high > 1000 && high < 2000));
  CHECK(limits_of({}, {.name = ""}) == std::pair{0.0, 1.0});
  CHECK(limits_of({7, 7}, {.name = ""}).first < 7);
}

TEST_CASE("a gap breaks the line, and a point between gaps is seen", "[report]") {
  const std::string svg = draw({.title = "a <b>",
                                .x = {.name = "step"},
                                .y = {.name = "nats"},
                                .series = {{.label = "one & two",
                                            .points = points_of({1, 2, NAN, 3, NAN, 4, 5}),
                                            .colour = "var(--run0)",
                                            .dash = "7 3"}},
                                .events = {{.x = 3, .what = "a \"crash\""}}});
  CHECK_THAT(svg, Contains("a &lt;b&gt;") && Contains("one &amp; two") && Contains("a &quot;crash&quot;") &&
                      Contains("stroke-dasharray=\"7 3\"") && Contains("var(--run0)"));
  const size_t line = svg.rfind("class=\"line\"");
  const std::string path = svg.substr(line, svg.find("/>", line) - line);
  CHECK(std::ranges::count(path, 'M') == 3);
  CHECK(std::ranges::count(path, 'L') == 2);
  CHECK(std::ranges::count(path, 'h') == 2);  // one of them in "stroke-dasharray"
  CHECK_THAT(draw({.title = "", .x = {.name = ""}, .y = {.name = ""}, .series = {}, .events = {}}),
             Contains("no values"));
}

TEST_CASE("areas stand on each other", "[report]") {
  const auto top_of_last = [](double second) {
    const std::string svg =
        draw({.title = "",
              .x = {.name = ""},
              .y = {.name = "", .from_zero = true},
              .series = {{.label = "a", .points = points_of({1, 1}), .colour = "#111", .mark = Mark::kArea},
                         {.label = "b", .points = points_of({second, second}), .colour = "#222", .mark = Mark::kArea},
                         {.label = "c", .points = points_of({8, 8}), .colour = "#333", .mark = Mark::kLine}},
              .events = {}});
    const size_t at = svg.find("style=\"fill:#222\" d=\"M");
    REQUIRE(at != std::string::npos);
    return std::stod(svg.substr(svg.find(' ', svg.find("d=\"M", at)) + 1));
  };
  CHECK(top_of_last(7) < top_of_last(3));  // 1 + 7 is as high as the line
}

TEST_CASE("units suit the largest value", "[report]") {
  const auto series = [](double y) {
    return std::vector<Series>{{.label = "", .points = points_of({y}), .colour = ""}};
  };
  CHECK(bytes_axis(series(5e9)).name == "GiB");
  CHECK(bytes_axis(series(1000)).name == "bytes");
  CHECK(time_axis(series(20)).name == "ms");
  CHECK(time_axis(series(20'000)).name == "s");
}

TEST_CASE("a heat map has a class for each value, and at most as many cells as can be seen", "[report]") {
  HeatMap map{.title = "t",
              .subtitle = "s",
              .x_name = "step",
              .y_name = "layer",
              .row_names = {"1", "2"},
              .column_names = {"10", "20", "30"},
              .rows = {{0, 1, 5}, {NAN, 1, 0}},
              .scale = {.bounds = {1, 4}, .colours = {"#aaa", "#bbb", "#ccc"}, .names = {"low", "some", "much"}}};
  const std::string svg = draw(map);
  const auto cells = [&](const std::string& text, const std::string& colour) {
    const size_t at = text.find("<path style=\"fill:" + colour);
    return at == std::string::npos ? 0 : std::ranges::count(text.substr(at, text.find("/>", at) - at), 'M');
  };
  CHECK(cells(svg, "#aaa") == 2);
  CHECK(cells(svg, "#bbb") == 2);
  CHECK(cells(svg, "#ccc") == 1);
  CHECK_THAT(svg, Contains(">much<") && Contains(">30<") && Contains(">layer<"));

  map.rows.assign(5000, std::vector<double>(20'000, 0));
  map.rows[4000][12'345] = 9;  // one cell of a hundred million
  const std::string large = draw(map);
  CHECK(large.size() < 200'000);
  CHECK(cells(large, "#ccc") == 1);
  map.rows.clear();
  CHECK(draw(map).empty());
}

}  // namespace
}  // namespace shoal
