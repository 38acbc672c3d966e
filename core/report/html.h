// core/report/html.h: the few elements that the page is made of. All text goes in as it is and comes out escaped.
#pragma once

#include <string>
#include <vector>

#include "core/report/run_record.h"

namespace shoal {

// A table; the first column is left, the others right, but for those that hold sentences (`text_columns`).
struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
  std::vector<size_t> text_columns = {};
  // Of a run each: a line of its colour stands in front of the row.
  bool rows_are_runs = false;
};
std::string html(const Table& table);

// Numbers with a name each, side by side.
struct Fact {
  std::string name, value, remark;
};
std::string facts(const std::vector<Fact>& all);

// A heading, a sentence below it, and what is in it (HTML). `id` is for links.
std::string section(const std::string& id, const std::string& title, const std::string& lead,
                    const std::string& inside);
// Charts (SVG) side by side where there is room.
std::string figures(const std::vector<std::string>& charts);
std::string wide_figure(const std::string& chart);
std::string note(const std::string& sentence);
// Closed until it is clicked on.
std::string preformatted(const std::string& title, const std::string& text);
// A piece of the run's line, for legends and tables.
std::string swatch(size_t run, size_t num_runs);

// "2026-11-27 21:09 UTC"; "–" for 0.
std::string utc_text(int64_t unix_s);

}  // namespace shoal
