// core/cli/line_report.h: lines of a table as they come, or one JSON array at the end.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>

namespace shoal {

// For results that have describe() and to_json().
class LineReport {
 public:
  LineReport(bool speaks, bool json) : speaks_(speaks), json_(json) {}

  void heading(const std::string& text) const {
    if (speaks_ && !json_) print(text);
  }
  template <class Result>
  void line(const Result& result) {
    if (!speaks_) return;
    if (json_) {
      array_ += (array_.empty() ? "[\n" : ",\n") + to_json(result);
    } else {
      print(describe(result) + "\n");
    }
  }
  void end() const {
    if (speaks_ && json_) print(array_ + "\n]\n");
  }

 private:
  // A measurement takes its time, and a reader wants to see that it goes on.
  static void print(const std::string& text) {
    fmt::print("{}", text);
    std::fflush(stdout);
  }

  bool speaks_, json_;
  std::string array_;
};

}  // namespace shoal
