// parallel/gather_values.h: small things that every rank of a group has, brought together between steps.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace shoal {

// All Collective and blocking, with messages in memory of `allocator`, the one the group's tensors come from.

// A number of every rank, on every rank.
std::vector<int64_t> gather_numbers(Communicator& group, Allocator& allocator, int64_t mine);
// A text of every rank, on rank 0; nothing elsewhere.
std::vector<std::string> gather_texts(Communicator& group, Allocator& allocator, const std::string& mine);
// The root's numbers, on every rank.
std::vector<int64_t> broadcast_numbers(Communicator& group, Allocator& allocator, const std::vector<int64_t>& numbers,
                                       int root);
// The root's text, on every rank.
std::string broadcast_text(Communicator& group, Allocator& allocator, const std::string& text, int root);

}  // namespace shoal
