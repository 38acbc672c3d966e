// core/config/given_values.h: where every value of a text came from.
#pragma once

#include <map>
#include <string>

namespace shoal {

struct GivenValues {
  // Path → where its value was given: "model.moe.topk" → "configs/small.textproto:14:5" or
  // "override 2 (model.moe.topk=12)". Messages and elements are there too: "model.moe", "data.train[0].prefix".
  std::map<std::string, std::string> origins;

  // Of this very value; "default" when nobody gave it.
  std::string origin(const std::string& path) const;
  // Of the value, or else of the nearest message around it; empty when none was given.
  std::string nearest_origin(const std::string& path) const;
};

}  // namespace shoal
