// core/checkpoint/data_record.h: the fingerprints of a run's data, as a manifest keeps them.
#pragma once

#include "core/checkpoint/manifest.pb.h"
#include "data/fingerprint.h"

namespace shoal {

DataRecord to_record(const DataFingerprint& data);
DataFingerprint from_record(const DataRecord& record);

}  // namespace shoal
