// core/config/load_published_runs.cpp: parse, and refuse what nobody could plan or compare.
#include "core/config/load_published_runs.h"

#include <set>
#include <vector>

#include "core/base/check.h"
#include "core/config/checker.h"
#include "core/config/load.h"
#include "core/config/parse_text.h"
#include "core/config/suggest.h"

namespace shoal {
namespace {

void check_software(const Checker& checker, const PublishedRuns& runs) {
  std::set<std::string> names;
  for (int i = 0; i < runs.software_size(); ++i) {
    const Software& software = runs.software(i);
    const std::string path = fmt::format("software[{}]", i);
    if (software.name().empty()) checker.refuse(path, "{} has no name", path);
    if (!names.insert(software.name()).second) {
      checker.refuse(path, "{} is the second that is called `{}`; rename one", path, software.name());
    }
    checker.in_range(path + ".attention", software.attention(), 0.01, 1.0, "a share of the cluster's efficiency");
  }
}

void check_plannable(const Checker& checker, const PublishedRuns& runs, const PublishedRun& run,
                     const std::string& path) {
  if (run.config_size() == 0) checker.refuse(path, "{} names no config; give its model and its layout", path);
  if (run.cluster().empty()) checker.refuse(path, "{} names no cluster; give a file of configs/clusters", path);
  checker.in_range(path + ".virtual_stages", int64_t{run.virtual_stages()}, int64_t{1}, int64_t{1000},
                   "pieces of the network on a stage");
  if (run.software().empty()) return;
  std::vector<std::string> names;
  for (const Software& software : runs.software()) names.push_back(software.name());
  for (const std::string& name : names) {
    if (name == run.software()) return;
  }
  const std::string near = nearest_name(run.software(), names);
  checker.refuse(path + ".software", "{}.software is `{}`, which the file does not describe{}", path, run.software(),
                 near.empty() ? "" : fmt::format("; did you mean `{}`?", near));
}

void check_runs(const Checker& checker, const PublishedRuns& runs) {
  std::set<std::string> names;
  for (int i = 0; i < runs.run_size(); ++i) {
    const PublishedRun& run = runs.run(i);
    const std::string path = fmt::format("run[{}]", i);
    if (run.name().empty()) checker.refuse(path, "{} has no name", path);
    if (!names.insert(run.name()).second) {
      checker.refuse(path, "{} is the second that is called `{}`; rename one", path, run.name());
    }
    if (run.source().empty()) checker.refuse(path, "{} has no source; say where it is published", path);
    if (!run.has_figure()) checker.refuse(path, "{} has no figure; say what its `published` is", path);
    checker.in_range(path + ".published", run.published(), 1e-9, 1e15, "the published figure");
    if (run.role() == PublishedRun::NOT_EXPRESSIBLE) {
      if (run.why().empty()) checker.refuse(path, "{} is not expressible; say why", path);
      continue;
    }
    check_plannable(checker, runs, run, path);
  }
}

}  // namespace

PublishedRuns parse_published_runs(const std::string& text, const std::string& name) {
  PublishedRuns runs;
  GivenValues given;
  const auto at = [&](const TextPlace& place) { return fmt::format("{}:{}:{}", name, place.line, place.column); };
  try {
    const TextPlaces found = parse_text(text, runs);
    for (const auto& [path, place] : found.places) given.origins[path] = at(place);
  } catch (const ParseError& error) {
    fail("{}: {}", at(error.place()), error.what());
  }
  const Checker checker(given);
  check_finite(checker, runs);
  checker.in_range("unfused_memory", runs.unfused_memory(), 0.01, 1.0, "a share of MEMORY's efficiency");
  check_software(checker, runs);
  check_runs(checker, runs);
  return runs;
}

PublishedRuns load_published_runs(const std::string& file) {
  return parse_published_runs(read_config_file(file), file);
}

Software software_of(const PublishedRuns& runs, const PublishedRun& run) {
  for (const Software& software : runs.software()) {
    if (software.name() == run.software()) return software;
  }
  SHOAL_CHECK(run.software().empty());
  return {};
}

}  // namespace shoal
