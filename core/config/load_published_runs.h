// core/config/load_published_runs.h: published runs from a file, checked.
#pragma once

#include <string>

#include "core/config/published_runs.pb.h"

namespace shoal {

// Throws Error: where in the file, what is wrong, what to do. Files that runs name are not opened.
PublishedRuns load_published_runs(const std::string& file);
// The same for a text, as if it were the file `name`.
PublishedRuns parse_published_runs(const std::string& text, const std::string& name);

// Ours where it names none. `runs` must hold it.
Software software_of(const PublishedRuns& runs, const PublishedRun& run);

}  // namespace shoal
