// core/config/print.cpp: the schema in order, value by value.
#include "core/config/print.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <algorithm>

namespace shoal {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr size_t kCommentColumn = 44;

// Whether a field of this message says something, given the message's other fields.
bool applies(const Message& message, const FieldDescriptor& field) {
  if (message.GetDescriptor() != AttentionConfig::descriptor()) return true;
  const auto& attention = static_cast<const AttentionConfig&>(message);
  switch (field.number()) {
    case AttentionConfig::kKvHeadsFieldNumber:
    case AttentionConfig::kHeadDimFieldNumber:
    case AttentionConfig::kQkNormFieldNumber: return attention.kind() == AttentionConfig::GQA;
    case AttentionConfig::kQLoraRankFieldNumber:
    case AttentionConfig::kKvLoraRankFieldNumber:
    case AttentionConfig::kQkNopeHeadDimFieldNumber:
    case AttentionConfig::kQkRopeHeadDimFieldNumber:
    case AttentionConfig::kVHeadDimFieldNumber: return attention.kind() == AttentionConfig::MLA;
    default: return true;
  }
}

class ConfigPrinter {
 public:
  ConfigPrinter(const LoadedConfig& loaded, Origins origins) : loaded_(loaded), origins_(origins) {
    values_.SetUseUtf8StringEscaping(true);
  }

  void print_fields(const Message& message, const std::string& path, int indent) {
    for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
      const FieldDescriptor& field = *message.GetDescriptor()->field(i);
      const std::string field_path = path.empty() ? field.name() : path + "." + field.name();
      if (field.message_type() == nullptr) {
        print_scalar(message, field, field_path, indent);
      } else {
        print_messages(message, field, field_path, indent);
      }
    }
  }

  std::string take() { return std::move(text_); }

 private:
  void print_scalar(const Message& message, const FieldDescriptor& field, const std::string& path, int indent) {
    std::string value;
    if (field.is_repeated()) {
      const int count = message.GetReflection()->FieldSize(message, &field);
      if (count == 0) return;
      for (int i = 0; i < count; ++i) {
        std::string element;
        values_.PrintFieldValueToString(message, &field, i, &element);
        value += (i == 0 ? "[" : ", ") + element;
      }
      value += "]";
    } else {
      const bool given = message.GetReflection()->HasField(message, &field);
      if (!given && (!field.has_default_value() || !applies(message, field))) return;
      values_.PrintFieldValueToString(message, &field, -1, &value);
    }
    std::string line = fmt::format("{:{}}{}: {}", "", indent, field.name(), value);
    if (origins_ == Origins::kComment) {
      line.resize(std::max(line.size() + 2, kCommentColumn), ' ');
      line += "# " + one_line(loaded_.origin(path));
    }
    text_ += line + "\n";
  }

  void print_messages(const Message& message, const FieldDescriptor& field, const std::string& path, int indent) {
    const auto* reflection = message.GetReflection();
    if (field.is_repeated()) {
      for (int i = 0; i < reflection->FieldSize(message, &field); ++i) {
        print_block(reflection->GetRepeatedMessage(message, &field, i), field, fmt::format("{}[{}]", path, i), indent);
      }
    } else if (reflection->HasField(message, &field) || !absence_has_meaning(field)) {
      print_block(reflection->GetMessage(message, &field), field, path, indent);
    }
  }

  void print_block(const Message& message, const FieldDescriptor& field, const std::string& path, int indent) {
    text_ += fmt::format("{:{}}{} {{\n", "", indent, field.name());
    print_fields(message, path, indent + 2);
    text_ += fmt::format("{:{}}}}\n", "", indent);
  }

  // An origin quotes what the user typed, which may have line breaks.
  static std::string one_line(std::string origin) {
    std::replace(origin.begin(), origin.end(), '\n', ' ');
    return origin;
  }

  const LoadedConfig& loaded_;
  Origins origins_;
  google::protobuf::TextFormat::Printer values_;
  std::string text_;
};

}  // namespace

std::string effective_config_text(const LoadedConfig& loaded, Origins origins) {
  ConfigPrinter printer(loaded, origins);
  printer.print_fields(loaded.config, "", 0);
  return printer.take();
}

bool absence_has_meaning(const google::protobuf::FieldDescriptor& field) {
  const auto* type = field.message_type();
  return type == MoeConfig::descriptor() || type == YarnConfig::descriptor() || type == MtpConfig::descriptor() ||
         type == EmulateConfig::descriptor() || type == LinkConfig::descriptor() ||
         type == TimelineConfig::descriptor();
}

}  // namespace shoal
