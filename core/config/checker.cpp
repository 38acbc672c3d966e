// core/config/checker.cpp: the wording of refusals, and the check that no number is NaN or infinite.
#include "core/config/checker.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace shoal {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

void check_finite_fields(const Checker& checker, const Message& message, const std::string& path) {
  const auto* reflection = message.GetReflection();
  std::vector<const FieldDescriptor*> given;
  reflection->ListFields(message, &given);
  for (const FieldDescriptor* field : given) {
    const std::string field_path = path.empty() ? field->name() : path + "." + field->name();
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
      const double value = reflection->GetDouble(message, field);
      if (!std::isfinite(value)) checker.refuse(field_path, "{} is {}; expected a finite number", field_path, value);
    }
    if (field->message_type() == nullptr) continue;
    if (!field->is_repeated()) check_finite_fields(checker, reflection->GetMessage(message, field), field_path);
    for (int i = 0; field->is_repeated() && i < reflection->FieldSize(message, field); ++i) {
      check_finite_fields(checker, reflection->GetRepeatedMessage(message, field, i),
                          fmt::format("{}[{}]", field_path, i));
    }
  }
}

}  // namespace

void Checker::refuse_text(const Paths& paths, const std::string& message) const {
  for (const std::string& path : paths.all) {
    if (const auto given = given_.origins.find(path); given != given_.origins.end()) {
      throw Error(given->second + ": " + message);
    }
  }
  const std::string origin = given_.nearest_origin(paths.all.front());
  throw Error(origin.empty() ? message : origin + ": " + message);
}

void Checker::in_range(const std::string& path, int64_t value, int64_t low, int64_t high,
                       const std::string& what) const {
  if (value < low || value > high) refuse(path, "{} is {}; expected {} to {} ({})", path, value, low, high, what);
}

void Checker::in_range(const std::string& path, double value, double low, double high, const std::string& what) const {
  if (!(value >= low && value <= high)) refuse(path, "{} is {}; expected {} to {} ({})", path, value, low, high, what);
}

void Checker::at_least(const std::string& path, double value, double low, const std::string& what) const {
  if (!(value >= low)) refuse(path, "{} is {}; expected at least {} ({})", path, value, low, what);
}

void Checker::positive(const std::string& path, double value, const std::string& what) const {
  if (!(value > 0)) refuse(path, "{} is {}; expected more than 0 ({})", path, value, what);
}

void Checker::size(const std::string& path, bool is_set, int64_t value, int64_t high, const std::string& what) const {
  if (!is_set) refuse(path, "{} is not set and has no default; give {}", path, what);
  in_range(path, value, 1, high, what);
}

void check_finite(const Checker& checker, const Message& config) { check_finite_fields(checker, config, ""); }

std::string nearest_divisors(int64_t size, int64_t wanted) {
  int64_t below = std::min(size, wanted);
  int64_t above = below;
  while (size % below != 0) --below;
  while (size % above != 0) ++above;
  return below == above ? std::to_string(below) : fmt::format("{} or {}", below, above);
}

}  // namespace shoal
