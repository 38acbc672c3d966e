// core/model/route_record.h: expert choices on disk, so that another layout can replay them.
//
// Free top-k routing is chaotic: a relative noise of 1e-7 flips choices within a few steps. Layouts are therefore
// compared with the choices of a reference run, keyed by (step, MoE layer, global row of the step), whatever rank held
// the row.
//
// File (little-endian): "SHOALRTE", u32 version 1, u32 moe_layers, u32 topk, u32 num_experts, u64 rows_per_step, then
// for each step and layer rows_per_step * topk u16: expert id + 1. A part never recorded reads as 0, which is refused.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace shoal {

struct RouteRecordShape {
  int64_t moe_layers = 0;
  int64_t topk = 0;
  int64_t num_experts = 0;
  int64_t rows_per_step = 0;  // most rows of any step
};

class RouteRecord {
 public:
  // Every rank opens the same path on a shared folder; `create` (by one rank, before the others open) makes the file,
  // which must not exist.
  static void create(const std::string& path, const RouteRecordShape& shape);
  // Throws with expected and found sizes when the file belongs to another model or batch.
  RouteRecord(std::string path, const RouteRecordShape& shape, bool writable);
  ~RouteRecord();
  RouteRecord(const RouteRecord&) = delete;
  RouteRecord& operator=(const RouteRecord&) = delete;

  void write(int64_t step, int64_t layer, int64_t first_row, const std::vector<int32_t>& experts);
  // `rows * topk` expert ids; throws when that part was never recorded.
  std::vector<int32_t> read(int64_t step, int64_t layer, int64_t first_row, int64_t rows) const;

 private:
  int64_t offset_of(int64_t step, int64_t layer, int64_t first_row, int64_t rows) const;
  std::string path_;
  RouteRecordShape shape_;
  int file_ = -1;
};

}  // namespace shoal
