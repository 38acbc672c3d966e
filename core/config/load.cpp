// core/config/load.cpp: parse, merge, remember.
#include "core/config/load.h"

#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>

#include "core/base/input_file.h"
#include "core/config/override.h"
#include "core/config/parse_text.h"
#include "core/config/suggest.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;
using google::protobuf::Message;

[[noreturn]] void cannot_read(const std::string& name, const std::string& reason) {
  const fs::path path = name;
  std::vector<std::string> neighbors;
  std::error_code ignored;
  fs::directory_iterator entries(path.has_parent_path() ? path.parent_path() : ".", ignored);
  for (const auto& entry : entries) neighbors.push_back(entry.path().filename().string());
  const std::string near = nearest_name(path.filename().string(), neighbors);
  if (near.empty()) fail("{}: the config file cannot be read: {}", name, reason);
  fail("{}: the config file cannot be read: {}; did you mean {}?", name, reason, (path.parent_path() / near).string());
}

// Empties the list at `path` ("data.train") where it exists.
void clear_list(Message& message, const std::string& path) {
  const size_t dot = path.find('.');
  const auto* field = message.GetDescriptor()->FindFieldByName(path.substr(0, dot));
  if (dot == std::string::npos) {
    message.GetReflection()->ClearField(&message, field);
  } else if (message.GetReflection()->HasField(message, field)) {
    clear_list(*message.GetReflection()->MutableMessage(&message, field), path.substr(dot + 1));
  }
}

void merge(LoadedConfig& loaded, const ParsedText& parsed, const std::function<std::string(const TextPlace&)>& origin) {
  for (const std::string& list : parsed.lists) {
    clear_list(loaded.config, list);
    std::erase_if(loaded.origins, [&](const auto& entry) { return entry.first.rfind(list + "[", 0) == 0; });
  }
  loaded.config.MergeFrom(parsed.config);
  for (const auto& [path, place] : parsed.places) loaded.origins[path] = origin(place);
}

void merge_text(LoadedConfig& loaded, const std::string& text, const std::string& name) {
  const auto at = [&](const TextPlace& place) { return fmt::format("{}:{}:{}", name, place.line, place.column); };
  try {
    merge(loaded, parse_text(text), at);
  } catch (const ParseError& error) {
    fail("{}: {}", at(error.place()), error.what());
  }
}

void merge_overrides(LoadedConfig& loaded, const std::vector<std::string>& overrides) {
  for (size_t i = 0; i < overrides.size(); ++i) {
    const std::string origin = fmt::format("override {} ({})", i + 1, overrides[i]);
    try {
      merge(loaded, parse_override(overrides[i]), [&](const TextPlace&) { return origin; });
    } catch (const Error& error) {
      fail("{}: {}", origin, error.what());
    }
  }
}

}  // namespace

std::string GivenValues::origin(const std::string& path) const {
  const auto found = origins.find(path);
  return found != origins.end() ? found->second : "default";
}

std::string GivenValues::nearest_origin(const std::string& path) const {
  for (std::string around = path; !around.empty();) {
    if (const auto found = origins.find(around); found != origins.end()) return found->second;
    const size_t cut = around.find_last_of(".[");
    around.resize(cut == std::string::npos ? 0 : cut);
  }
  return {};
}

LoadedConfig parse_config(const std::string& text, const std::string& name, const std::vector<std::string>& overrides) {
  LoadedConfig loaded;
  merge_text(loaded, text, name);
  merge_overrides(loaded, overrides);
  return loaded;
}

LoadedConfig load_config(const std::vector<std::string>& files, const std::vector<std::string>& overrides) {
  if (files.empty()) fail("no config file was given; expected at least one, such as configs/quickstart.textproto");
  LoadedConfig loaded;
  for (const std::string& file : files) merge_text(loaded, read_config_file(file), file);
  merge_overrides(loaded, overrides);
  return loaded;
}

std::string read_config_file(const std::string& name) {
  std::error_code ignored;
  if (fs::is_directory(name, ignored)) {
    fail("{}: is a folder; expected a config file, such as configs/quickstart.textproto", name);
  }
  if (::access(name.c_str(), R_OK) != 0) cannot_read(name, std::strerror(errno));
  constexpr int64_t kMaxBytes = 1 << 20;
  return read_small_file(name, "the config file", kMaxBytes);
}

ConfigArguments split_config_arguments(const std::vector<std::string>& arguments) {
  ConfigArguments split;
  for (const std::string& argument : arguments) {
    const size_t equals = argument.find('=');
    bool is_override = equals != std::string::npos && equals > 0;
    for (size_t i = 0; is_override && i < equals; ++i) {
      const char c = argument[i];
      is_override = std::isalnum(static_cast<unsigned char>(c)) != 0 || std::strchr("._-[]", c) != nullptr;
    }
    (is_override ? split.overrides : split.files).push_back(argument);
  }
  return split;
}

}  // namespace shoal
