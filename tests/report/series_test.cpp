// tests/report/series_test.cpp: fewer points that lose no spike; means; numbers and text for a page.
#include "core/report/series.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/report/svg_text.h"

namespace shoal {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST_CASE("a thinned curve keeps its ends, its spikes, its gaps and the order of x", "[report]") {
  Points many;
  for (int i = 0; i < 100'000; ++i) many.add(i, std::sin(i * 0.001));
  many.y[40'001] = 1e6;
  many.y[70'003] = -1e6;
  many.y[90'000] = kNan;
  for (const size_t most : {size_t{1000}, size_t{50}, size_t{7}}) {
    INFO(most);
    const Points few = thinned(many, most);
    CHECK(few.size() <= most);
    CHECK(few.x.front() == 0);
    CHECK(few.x.back() == 99'999);
    CHECK(std::ranges::is_sorted(few.x));
    CHECK(std::ranges::count(few.y, 1e6) == 1);
    CHECK(std::ranges::count(few.y, -1e6) == 1);
    CHECK(std::ranges::any_of(few.y, [](double y) { return std::isnan(y); }));
  }
  Points few;
  for (int i = 0; i < 900; ++i) few.add(i, i);
  CHECK(thinned(few).size() == 900);
  CHECK(thinned(Points()).size() == 0);
}

TEST_CASE("a smooth curve begins where the curve does, and passes over gaps", "[report]") {
  Points points;
  points.add(1, 5);
  points.add(2, kNan);
  points.add(3, 5);
  points.add(4, 9);
  const Points smooth = smoothed(points, 0.5);
  CHECK(smooth.y[0] == 5);
  CHECK(std::isnan(smooth.y[1]));
  CHECK(smooth.y[2] == 5);
  CHECK(smooth.y[3] == Approx((0.125 * 5 + 0.25 * 5 + 0.5 * 9) / 0.875));
}

TEST_CASE("averages of stacked curves still add up", "[report]") {
  Points a, b, sum;
  for (int i = 0; i < 1003; ++i) {
    a.add(i, i % 17);
    b.add(i, i % 5);
    sum.add(i, i % 17 + i % 5);
  }
  const Points few_a = averaged(a, 100), few_b = averaged(b, 100), few_sum = averaged(sum, 100);
  REQUIRE(few_a.size() == 100);
  for (size_t i = 0; i < 100; ++i) CHECK(few_a.y[i] + few_b.y[i] == Approx(few_sum.y[i]));
  CHECK(averaged(a, 5000).size() == a.size());
  CHECK(averaged(Points(), 10).size() == 0);
}

TEST_CASE("numbers are short and never round into a wrong unit", "[report]") {
  for (const auto& [value, text] : {std::pair{0.0, "0"},
                                    {0.0123, "0.0123"},
                                    {4.5212, "4.52"},
                                    {-42.0, "-42"},
                                    {999.4, "999"},
                                    {999.6, "1,000"},
                                    {1234.0, "1,234"},
                                    {9999.6, "10k"},
                                    {12345.0, "12.3k"},
                                    {999'600.0, "1M"},
                                    {45.6e6, "45.6M"},
                                    {14.8e12, "14.8T"},
                                    {1e20, "1e+20"},
                                    {kNan, "–"}}) {
    CHECK(short_number(value) == text);
  }
  CHECK(tick_step(10, 5) == 2);
  CHECK(tick_step(0.7, 5) == Approx(0.2));
}

TEST_CASE("text from anywhere is safe in XML", "[report]") {
  CHECK(escaped("a<b>&\"c'") == "a&lt;b&gt;&amp;&quot;c&#39;");
  CHECK(escaped("Zürich – 10¹²\n\t") == "Zürich – 10¹²\n\t");
  CHECK(escaped(std::string("\x01\0x", 3)) == "\uFFFD\uFFFDx");
  CHECK(escaped("ab\xFF\xC3 c") == "ab\uFFFD\uFFFD c");
  CHECK(escaped("\xEF\xBF\xBF") == "\uFFFD");
}

}  // namespace
}  // namespace shoal
