// core/report/write_report.h: the report of a run, or of several, into a file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/report/page.h"

namespace shoal {

struct WrittenReport {
  std::filesystem::path file;
  int64_t bytes = 0;
  std::vector<std::string> problems;  // what could not be read: a sentence each, with the run's folder
};

// Overwrites `file`. Throws Error where a folder is no run, or the file cannot be written.
WrittenReport write_report(const std::vector<std::string>& runs, const std::filesystem::path& file);

// Overwrites RUN/report.html at the end of a run. A failure is a warning.
void write_report_of_run(const std::filesystem::path& run);

// Overwrites `file` with one chart alone. Throws Error as picture_of does.
void write_picture(const std::vector<std::string>& runs, Picture picture, const std::filesystem::path& file);

constexpr const char* kReportName = "report.html";

}  // namespace shoal
