// core/checkpoint/safetensors_header.h: the JSON at the front of a safetensors file, made and checked.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/checkpoint/safetensors.h"

namespace shoal {

// The reference's limit on the header's length.
constexpr int64_t kMaxSafetensorsHeaderBytes = 100'000'000;
constexpr size_t kMaxSafetensorsDims = 8;

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  // in the order of their data
  std::map<std::string, std::string> metadata;
};

// Parses and validates a header in front of `data_bytes` bytes of data. `file` is for messages.
SafetensorsHeader parse_safetensors_header(std::string_view json, int64_t data_bytes, const std::string& file);

// The order of their data: widest dtype first, then by name.
void sort_as_in_file(std::vector<NamedTensor>& tensors);

// Sorts `tensors` so and returns the header (padded, without its length).
std::string make_safetensors_header(std::vector<NamedTensor>& tensors,
                                    const std::map<std::string, std::string>& metadata);

// Bits of an element by the file's dtype name; 0 when the name is unknown.
int64_t safetensors_bits(std::string_view dtype);
// "BF16".
std::string_view safetensors_name(DType dtype);

}  // namespace shoal
