// core/model/route_record.cpp: fixed-size records, written and read in place by every rank.
#include "core/model/route_record.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/base/check.h"

namespace shoal {

namespace {

struct Header {
  char magic[8] = {'S', 'H', 'O', 'A', 'L', 'R', 'T', 'E'};
  uint32_t version = 1;
  uint32_t moe_layers = 0;
  uint32_t topk = 0;
  uint32_t num_experts = 0;
  uint64_t rows_per_step = 0;
};
static_assert(sizeof(Header) == 32);

Header header_of(const RouteRecordShape& shape) {
  Header header;
  header.moe_layers = static_cast<uint32_t>(shape.moe_layers);
  header.topk = static_cast<uint32_t>(shape.topk);
  header.num_experts = static_cast<uint32_t>(shape.num_experts);
  header.rows_per_step = static_cast<uint64_t>(shape.rows_per_step);
  return header;
}

}  // namespace

void RouteRecord::create(const std::string& path, const RouteRecordShape& shape) {
  SHOAL_CHECK(shape.num_experts <= 0xFFFF, "{} experts do not fit 16 bits", shape.num_experts);
  const int file = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
  if (file < 0 && errno == EEXIST) {
    fail(
        "the routing record '{}' exists already and is not written over: to replay it, set moe.routing=REPLAY; to "
        "record anew, remove it or give moe.replay_file another name",
        path);
  }
  if (file < 0) fail("cannot create the routing record '{}': {}; see moe.replay_file", path, std::strerror(errno));
  const Header header = header_of(shape);
  const bool ok = ::pwrite(file, &header, sizeof(header), 0) == static_cast<ssize_t>(sizeof(header));
  ::close(file);
  if (!ok) fail("cannot write the routing record '{}': {}", path, std::strerror(errno));
}

RouteRecord::RouteRecord(std::string path, const RouteRecordShape& shape, bool writable)
    : path_(std::move(path)), shape_(shape) {
  file_ = ::open(path_.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (file_ < 0) {
    fail(
        "cannot open the routing record '{}': {}; record one by a run with moe.routing: LEARNED and this "
        "moe.replay_file",
        path_, std::strerror(errno));
  }
  Header found;
  const Header expected = header_of(shape);
  const bool read_ok = ::pread(file_, &found, sizeof(found), 0) == static_cast<ssize_t>(sizeof(found));
  if (!read_ok || std::memcmp(&found, &expected, sizeof(found)) != 0) {
    ::close(file_);
    if (!read_ok || std::memcmp(found.magic, expected.magic, sizeof(found.magic)) != 0) {
      fail("'{}' is not a routing record of Shoal", path_);
    }
    fail(
        "the routing record '{}' has {} MoE layers, top-{} of {} experts, {} rows a step; this run has {}, top-{} of "
        "{}, {}: record it anew with this model and batch",
        path_, found.moe_layers, found.topk, found.num_experts, found.rows_per_step, expected.moe_layers, expected.topk,
        expected.num_experts, expected.rows_per_step);
  }
}

RouteRecord::~RouteRecord() { ::close(file_); }

int64_t RouteRecord::offset_of(int64_t step, int64_t layer, int64_t first_row, int64_t rows) const {
  SHOAL_CHECK(first_row >= 0 && first_row + rows <= shape_.rows_per_step, "rows [{}, {}) of {}", first_row,
              first_row + rows, shape_.rows_per_step);
  return static_cast<int64_t>(sizeof(Header)) +
         ((step * shape_.moe_layers + layer) * shape_.rows_per_step + first_row) * shape_.topk * 2;
}

void RouteRecord::write(int64_t step, int64_t layer, int64_t first_row, const std::vector<int32_t>& experts) {
  // Stored plus one, so that a hole in the file (zeros) is "never recorded".
  std::vector<uint16_t> packed(experts.size());
  for (size_t i = 0; i < experts.size(); ++i) packed[i] = static_cast<uint16_t>(experts[i] + 1);
  const int64_t rows = static_cast<int64_t>(experts.size()) / shape_.topk;
  const ssize_t bytes = static_cast<ssize_t>(packed.size() * 2);
  if (::pwrite(file_, packed.data(), static_cast<size_t>(bytes), offset_of(step, layer, first_row, rows)) != bytes) {
    fail("cannot write the routing record '{}': {}", path_, std::strerror(errno));
  }
}

std::vector<int32_t> RouteRecord::read(int64_t step, int64_t layer, int64_t first_row, int64_t rows) const {
  std::vector<uint16_t> packed(static_cast<size_t>(rows * shape_.topk));
  const ssize_t bytes = static_cast<ssize_t>(packed.size() * 2);
  const ssize_t got =
      ::pread(file_, packed.data(), static_cast<size_t>(bytes), offset_of(step, layer, first_row, rows));
  std::vector<int32_t> experts(packed.size());
  for (size_t i = 0; i < packed.size(); ++i) {
    if (got != bytes || packed[i] == 0 || packed[i] > shape_.num_experts) {
      fail("the routing record '{}' does not hold step {}, MoE layer {}, rows [{}, {}): the recording run was shorter",
           path_, step, layer, first_row, first_row + rows);
    }
    experts[i] = static_cast<int32_t>(packed[i]) - 1;
  }
  return experts;
}

}  // namespace shoal
