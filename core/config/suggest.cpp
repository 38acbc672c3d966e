// core/config/suggest.cpp: edit distance over the names of the schema.
#include "core/config/suggest.h"

#include <fmt/format.h>

#include <algorithm>

namespace shoal {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

// Shorter words are contained in too many others.
constexpr size_t kShortestContained = 4;

std::vector<std::string> field_names(const Descriptor& message) {
  std::vector<std::string> names;
  for (int i = 0; i < message.field_count(); ++i) names.push_back(message.field(i)->name());
  return names;
}

// Paths of all messages at or below `message` that have a field of this name.
void find_homes(const Descriptor& message, const std::string& path, const std::string& name,
                std::vector<std::string>& homes) {
  if (message.FindFieldByName(name) != nullptr && !path.empty()) homes.push_back(path);
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    if (field.message_type() == nullptr) continue;
    find_homes(*field.message_type(), path.empty() ? field.name() : path + "." + field.name(), name, homes);
  }
}

bool contains(const std::string& longer, const std::string& shorter) {
  return shorter.size() >= kShortestContained && longer.find(shorter) != std::string::npos;
}

}  // namespace

int edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<int>> d(a.size() + 1, std::vector<int>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = static_cast<int>(i);
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

std::string nearest_name(const std::string& name, const std::vector<std::string>& candidates) {
  constexpr size_t kLongest = 100;  // no name of ours comes near, and a distance costs the product of both lengths
  if (name.size() > kLongest) return {};
  std::string best;
  int best_distance = std::max<int>(1, static_cast<int>(name.size()) / 3) + 1;
  for (const std::string& candidate : candidates) {
    const int distance = edit_distance(name, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  if (!best.empty()) return best;
  for (const std::string& candidate : candidates) {
    if (contains(name, candidate) || contains(candidate, name)) return candidate;
  }
  return {};
}

std::string join_choices(const std::vector<std::string>& choices) {
  if (choices.size() < 2) return choices.empty() ? "" : choices[0];
  const auto last = choices.end() - 1;
  return fmt::format("{} or {}", fmt::join(choices.begin(), last, ", "), *last);
}

std::string no_such_field(const Descriptor& root, const Descriptor& message, const std::string& path,
                          const std::string& name) {
  const std::string start = fmt::format("{} has no field `{}`", path.empty() ? "the config" : path, name);
  const std::vector<std::string> names = field_names(message);
  const std::string nearest = nearest_name(name, names);
  // A single slip of the pen is likelier than the wrong message.
  if (!nearest.empty() && edit_distance(name, nearest) == 1)
    return fmt::format("{}; did you mean `{}`?", start, nearest);
  std::vector<std::string> homes;
  find_homes(root, "", name, homes);
  if (!homes.empty()) return fmt::format("{}; it is a field of {}", start, join_choices(homes));
  if (!nearest.empty()) return fmt::format("{}; did you mean `{}`?", start, nearest);
  return fmt::format("{}; its fields are {}", start, fmt::join(names, ", "));
}

std::string no_such_value(const FieldDescriptor& field, const std::string& path, const std::string& name) {
  std::vector<std::string> values;
  for (int i = 0; i < field.enum_type()->value_count(); ++i) values.push_back(field.enum_type()->value(i)->name());
  return fmt::format("{} has no value `{}`; expected {}", path, name, join_choices(values));
}

}  // namespace shoal
