// core/base/log.h: the console. Messages go to stderr through spdlog; tables and results a user asked for go to stdout.
#pragma once

namespace shoal {

// Rank 0 speaks; other ranks only warn and worse, with their rank in front.
void set_up_log(int rank, int num_ranks);

}  // namespace shoal
