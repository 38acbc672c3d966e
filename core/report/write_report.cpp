// core/report/write_report.cpp: read, draw, write.
#include "core/report/write_report.h"

#include <spdlog/spdlog.h>

#include "core/base/atomic_file.h"
#include "core/base/check.h"
#include "core/report/read_run.h"
#include "core/train/environment.h"
#include "core/train/progress.h"

namespace shoal {

WrittenReport write_report(const std::vector<std::string>& folders, const std::filesystem::path& file) {
  const std::vector<RunRecord> runs = read_runs(folders);
  const std::string page = report_page(runs, utc_now());
  write_text_file(file, page);
  WrittenReport report{.file = file, .bytes = static_cast<int64_t>(page.size()), .problems = {}};
  for (const RunRecord& run : runs) {
    for (const auto* problems : {&run.problems, &run.metrics.problems}) {
      for (const std::string& problem : *problems) {
        report.problems.push_back(fmt::format("{}: {}", run.folder.string(), problem));
      }
    }
  }
  return report;
}

void write_report_of_run(const std::filesystem::path& run) {
  try {
    const WrittenReport report = write_report({run.string()}, run / kReportName);
    for (const std::string& problem : report.problems) spdlog::warn("{}", problem);
    say(fmt::format("wrote {}", report.file.string()));
  } catch (const std::exception& error) {
    spdlog::warn("no report of the run: {}; `shoal report {}` writes one", error.what(), run.string());
  }
}

void write_picture(const std::vector<std::string>& folders, Picture picture, const std::filesystem::path& file) {
  write_text_file(file, picture_of(read_runs(folders), picture));
}

}  // namespace shoal
