// core/config/compare.cpp: both configs as lists of fields, side by side.
#include "core/config/compare.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <array>
#include <utility>

#include "core/base/check.h"
#include "core/config/print.h"

namespace shoal {

namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;

using Fields = std::vector<std::pair<std::string, std::string>>;

std::string value_text(const Message& message, const FieldDescriptor* field, int index) {
  std::string text;
  TextFormat::PrintFieldValueToString(message, field, index, &text);
  return text;
}

// What is absent has its defaults, but for messages whose absence means something.
void list_fields(const Message& message, const std::string& prefix, Fields& fields) {
  const auto* reflection = message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    const std::string path = prefix + field->name();
    const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (field->is_repeated()) {
      for (int k = 0; k < reflection->FieldSize(message, field); ++k) {
        const std::string element = fmt::format("{}[{}]", path, k);
        if (is_message) {
          list_fields(reflection->GetRepeatedMessage(message, field, k), element + ".", fields);
        } else {
          fields.emplace_back(element, value_text(message, field, k));
        }
      }
    } else if (is_message) {
      if (reflection->HasField(message, field) || !absence_has_meaning(*field)) {
        list_fields(reflection->GetMessage(message, field), path + ".", fields);
      }
    } else if (reflection->HasField(message, field) || field->has_default_value()) {
      fields.emplace_back(path, value_text(message, field, -1));
    }
  }
}

const std::vector<std::string>& what_is_trained() {
  static const std::vector<std::string> names{
      "model",     "data.train",         "data.seq_len",       "data.tokenizer",      "data.mask_documents",
      "optim",     "data.shuffle",       "train.global_batch", "train.ramp_fraction", "train.ramp_from_batch",
      "precision", "train.perturb_init", "run.seed",           "train.steps"};
  return names;
}

}  // namespace

std::vector<ConfigChange> compare_configs(const Config& was, const Config& is) {
  Fields old_fields, new_fields;
  list_fields(was, "", old_fields);
  list_fields(is, "", new_fields);
  const auto find = [](const Fields& fields, const std::string& path) -> const std::string* {
    for (const auto& [name, value] : fields) {
      if (name == path) return &value;
    }
    return nullptr;
  };
  std::vector<ConfigChange> changes;
  const auto add = [&](const std::string& path, const std::string& before, const std::string& after) {
    // A name trains nothing.
    changes.push_back({path, before, after, is_covered(path, what_is_trained()) && path != "model.name"});
  };
  for (const auto& [path, value] : old_fields) {
    const std::string* now = find(new_fields, path);
    if (now == nullptr) {
      add(path, value, "absent");
    } else if (*now != value) {
      add(path, value, *now);
    }
  }
  for (const auto& [path, value] : new_fields) {
    if (find(old_fields, path) == nullptr) add(path, "absent", value);
  }
  return changes;
}

bool is_covered(const std::string& path, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (path == name) return true;
    if (!name.empty() && path.starts_with(name) && (path[name.size()] == '.' || path[name.size()] == '[')) return true;
  }
  return false;
}

std::string describe(const std::vector<ConfigChange>& changes) {
  std::string text;
  for (const ConfigChange& change : changes) {
    text += fmt::format("  {}: {} → {}\n", change.path, change.was, change.is);
  }
  return text;
}

}  // namespace shoal
