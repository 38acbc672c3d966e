// core/train/same_run.h: may a run go on from a checkpoint: is it one of its own?
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/check.h"
#include "core/checkpoint/native_checkpoint.h"
#include "core/config/compare.h"
#include "core/config/config.pb.h"
#include "data/fingerprint.h"

namespace shoal {

// Another run's config or data: not a damaged checkpoint, so no reason to look for an older one.
class RunChanged : public Error {
 public:
  using Error::Error;
};

// Throws RunChanged, with what differs, where the config (`config`, whose text `config_text` is) or the data (absent:
// not looked at) changed in a way that matters and train.allow_changed does not name. The same on every rank.
// Returns what is to be said of the data; empty: they are the same.
std::string check_same_run(const NativeCheckpoint& checkpoint, const Config& config, const std::string& config_text,
                           const std::optional<DataFingerprint>& data);

// How this run's network differs from the checkpoint's, allowed or not.
std::vector<ConfigChange> network_changes(const NativeCheckpoint& checkpoint, const std::string& config_text);

}  // namespace shoal
