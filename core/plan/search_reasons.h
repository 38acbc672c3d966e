// core/plan/search_reasons.h: why layouts lose: what costs them more than the best, and what changes with one knob.
#pragma once

#include <string>
#include <vector>

#include "core/plan/search.h"

namespace shoal {

struct LayoutChange {
  std::string name;  // "PP16 → PP8"
  SearchLayout layout;
};
// Each knob set to the values next to its own, where there is an order, else to each other value. Some may not be
// points.
std::vector<LayoutChange> neighbours(const SearchSpace& space, const SearchLayout& layout);

// Fills in `why` everywhere.
void explain(SearchResult& result);

}  // namespace shoal
