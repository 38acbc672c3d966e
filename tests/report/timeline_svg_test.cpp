// tests/report/timeline_svg_test.cpp: timelines drawn: every rank and track, however many slices.
#include "core/report/timeline_svg.h"

#include <catch2/catch.hpp>

#include <string>

#include "tests/temporary_folder.h"
#include "tests/train/timeline_example.h"

using namespace shoal;
using Catch::Matchers::Contains;

TEST_CASE("a picture has a group for each rank and track, and stays small", "[timeline]") {
  const TemporaryFolder folder;
  RankTrace busy = example_rank(0);
  for (int i = 0; i < 100'000; ++i) {  // far thinner than a pixel, of a family for about one pixel
    TraceRecord record = record_of(TraceTrack::kCompute, i / 100 % kNumWorkKinds, 0, 0);
    record.begin_ns = 1100 * kMs + i * 10'000;
    record.end_ns = record.begin_ns + 9'000;
    busy.records.push_back(record);
  }
  busy.records[0].end_ns = 2100 * kMs;
  const Timeline timeline = read_text(folder, text_of({busy, example_rank(1)}));
  const std::string svg = draw_timelines({timeline, timeline}, {.titles = {"one <lane> & more"}});
  CHECK(svg.size() < 300'000);
  CHECK_THAT(svg, Contains("one &lt;lane&gt; &amp; more · step 7: ") && Contains("<g class=\"compute\">") &&
                      Contains("<g class=\"waits\">") && Contains("<g class=\"wire\">") && Contains("url(#wait1)") &&
                      Contains("waiting for combine") && Contains(" ms</text>") && !Contains("<script"));
  const auto count = [&svg](const std::string& words) {
    int found = 0;
    for (size_t at = svg.find(words); at != std::string::npos; at = svg.find(words, at + 1)) ++found;
    return found;
  };
  CHECK(count("class=\"timeline\"") == 2);
  CHECK(count("class=\"rank\"") == 4);
  CHECK(count("<g") == count("</g>"));
  CHECK_THAT(draw_timelines({timeline}, {.ranks = {1}}), Contains("rank 1") && !Contains("rank 0"));
  CHECK(draw_timelines({timeline}, {.max_bytes = 5000}).size() < draw_timelines({timeline}, {}).size());
  CHECK_THROWS_WITH(draw_timelines({timeline}, {.step = 3}), Contains("no such step and rank to draw"));
}
