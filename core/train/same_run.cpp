// core/train/same_run.cpp: config by its fields, data by their fingerprints, told and allowed by the same names.
#include "core/train/same_run.h"

#include "core/checkpoint/data_record.h"
#include "core/config/load.h"

namespace shoal {

namespace {

using Changes = std::vector<ConfigChange>;

// Where nothing was trained yet (imported), only the network must be the same.
bool has_trained(const NativeCheckpoint& checkpoint) { return checkpoint.manifest().progress().updates() > 0; }

bool of_network(const ConfigChange& change) { return is_covered(change.path, {"model"}); }

Changes config_changes(const NativeCheckpoint& checkpoint, const std::string& config_text) {
  const std::string path = checkpoint.directory() / "MANIFEST.textproto (config)";
  const LoadedConfig was = parse_config(checkpoint.manifest().config(), path);
  const LoadedConfig is = parse_config(config_text, "this run's config");
  Changes changes;
  for (const ConfigChange& change : compare_configs(was.config, is.config)) {
    if (change.matters && (has_trained(checkpoint) || of_network(change))) changes.push_back(change);
  }
  return changes;
}

Changes data_changes(const NativeCheckpoint& checkpoint, const Config& config, const DataFingerprint& data) {
  if (!has_trained(checkpoint) || !checkpoint.manifest().has_data()) return {};
  std::vector<std::string> prefixes;
  for (const DataSource& source : config.data().train()) prefixes.push_back(source.prefix());
  return compare_data(from_record(checkpoint.manifest().data()), data, prefixes);
}

Changes not_allowed(const Changes& changes, const Config& config) {
  const std::vector<std::string> allowed(config.train().allow_changed().begin(), config.train().allow_changed().end());
  Changes refused;
  for (const ConfigChange& change : changes) {
    if (!is_covered(change.path, allowed)) refused.push_back(change);
  }
  return refused;
}

// ["optim.lr", "data.train[0]"], as train.allow_changed takes it.
std::string list_of_paths(const Changes& changes, const Changes& more) {
  std::string text;
  for (const Changes* list : {&changes, &more}) {
    for (const ConfigChange& change : *list) {
      text += fmt::format("{}\"{}\"", text.empty() ? "[" : ", ", change.path);
    }
  }
  return text + "]";
}

}  // namespace

std::string check_same_run(const NativeCheckpoint& checkpoint, const Config& config, const std::string& config_text,
                           const std::optional<DataFingerprint>& data) {
  const Changes of_data = data ? data_changes(checkpoint, config, *data) : Changes();
  const Changes refused = not_allowed(config_changes(checkpoint, config_text), config);
  const Changes refused_data = not_allowed(of_data, config);
  const std::string name = checkpoint.directory().string();
  if (!refused.empty() || !refused_data.empty()) {
    throw RunChanged(fmt::format(
        "{} was made with {}:\n{}{}{}To go on all the same, name what may differ: train.allow_changed={}; to "
        "train anew, set run.dir to another folder",
        name,
        refused_data.empty() ? "another config"
        : refused.empty()    ? "other data under the same names"
                             : "another config and other data",
        describe(refused), describe(refused_data),
        refused_data.empty() ? "" : "If that is a mistake, bring the old files back. ",
        list_of_paths(refused, refused_data)));
  }
  if (!of_data.empty()) {
    return fmt::format(
        "{} was made with other data, which train.allow_changed lets pass:\n{}Which sequences come next is worked out "
        "from the new files: some may be seen twice, others never",
        name, describe(of_data));
  }
  if (data && has_trained(checkpoint) && !checkpoint.manifest().has_data()) {
    return fmt::format("{} was saved by a version that did not record its data: whether they changed is not known",
                       name);
  }
  return "";
}

std::vector<ConfigChange> network_changes(const NativeCheckpoint& checkpoint, const std::string& config_text) {
  Changes changes = config_changes(checkpoint, config_text);
  std::erase_if(changes, [](const ConfigChange& change) { return !of_network(change); });
  return changes;
}

}  // namespace shoal
