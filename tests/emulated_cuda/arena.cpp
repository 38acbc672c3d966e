// tests/emulated_cuda/arena.cpp: pages of the emulated device, their protection and their poison.
#include "tests/emulated_cuda/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "tests/emulated_cuda/report.h"
#include "tests/emulated_cuda/sanitizers.h"

namespace emulated {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr int kPoison = 0xFF;

size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

Arena& Arena::instance() {
  static Arena* arena = new Arena;
  return *arena;
}

Arena::Arena() {
  const char* guard = std::getenv("SHOAL_EMULATED_CUDA_GUARD");
  guarded_ = guard != nullptr && std::strcmp(guard, "1") == 0;
  for (size_t gib = 64; gib > 0 && base_ == nullptr; gib /= 2) reserve(gib << 30);
  if (base_ == nullptr) die("no address space of 1 GiB for the device's memory");
  // Twice as many addresses as memory: spans are whole pages, and holes come with use.
  capacity_ = std::min(reserved_ / 2, size_t{16} << 30);
}

bool Arena::reserve(size_t bytes) {
  void* start = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) return false;
  const auto address = reinterpret_cast<uintptr_t>(start);
  const size_t skipped = round_up(address, kHugePage) - address;
  base_ = static_cast<std::byte*>(start) + skipped;
  reserved_ = (bytes - skipped) / kHugePage * kHugePage;
  // The protection of a huge page changes at the price of a small one's.
  if (!guarded_) madvise(base_, reserved_, MADV_HUGEPAGE);
  return true;
}

void* Arena::allocate(size_t bytes) {
  if (bytes == 0) return nullptr;
  const std::lock_guard lock(mutex_);
  if (bytes > capacity_ - live_bytes_) return nullptr;
  const size_t span = round_up(bytes, kPage);
  std::byte* start = take_span(span + kPage);
  if (start == nullptr) return nullptr;
  // At the end of its span, so that a step too far meets the page behind.
  const size_t alignment = guarded_ ? 16 : 256;
  const Block block{span, span + kPage, start + (span - bytes) / alignment * alignment, bytes};
  blocks_.emplace(start, block);
  expose(start, block);
  std::memset(start, kPoison, touchable_bytes(block));
  forbid(start, block.reserved);
  allow(block.data, bytes);
  hide(start, block);
  live_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, live_bytes_);
  return block.data;
}

bool Arena::free(void* data) {
  const std::lock_guard lock(mutex_);
  auto after = blocks_.upper_bound(static_cast<std::byte*>(data));
  if (after == blocks_.begin()) return false;
  const auto [start, block] = *std::prev(after);
  if (block.data != data) return false;
  expose(start, block);
  check_slack(start, block);
  std::memset(start, kPoison, touchable_bytes(block));
  forbid(start, block.reserved);
  hide(start, block);
  if (guarded_) mprotect(start, block.span, PROT_NONE);
  live_bytes_ -= block.bytes;
  blocks_.erase(start);
  give_span(start, block.reserved);
  return true;
}

size_t Arena::touchable_bytes(const Block& block) const { return guarded_ ? block.span : block.reserved; }

// For the arena itself, whether kernels run at the moment or not.
void Arena::expose(std::byte* start, const Block& block) {
  if (guarded_) {
    mprotect(start, block.span, PROT_READ | PROT_WRITE);
  } else {
    protect_all(PROT_READ | PROT_WRITE);
  }
  allow(start, touchable_bytes(block));
}

void Arena::hide(std::byte* start, const Block& block) {
  if (num_open_ > 0) return;
  if (guarded_) {
    mprotect(start, block.span, PROT_NONE);
  } else {
    protect_all(PROT_NONE);
  }
}

void Arena::check_slack(const std::byte* start, const Block& block) {
  const std::byte* end = start + touchable_bytes(block);
  for (const std::byte* at = start; at < end; ++at) {
    if (at == block.data) at += block.bytes;
    if (at < end && *at != std::byte{kPoison}) {
      die("found at its release: bytes were written at %p, outside of the allocation of %zu bytes at %p", at,
          block.bytes, block.data);
    }
  }
}

std::byte* Arena::take_span(size_t reserved) {
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    const auto [start, size] = *it;
    if (size < reserved) continue;
    free_.erase(it);
    if (size > reserved) free_.emplace(start + reserved, size - reserved);
    return start;
  }
  if (used_ + reserved > reserved_) return nullptr;
  std::byte* start = base_ + used_;
  used_ += reserved;
  return start;
}

void Arena::give_span(std::byte* start, size_t reserved) {
  auto after = free_.emplace(start, reserved).first;
  if (auto next = std::next(after); next != free_.end() && after->first + after->second == next->first) {
    after->second += next->second;
    free_.erase(next);
  }
  if (after == free_.begin()) return;
  if (auto previous = std::prev(after); previous->first + previous->second == after->first) {
    previous->second += after->second;
    free_.erase(after);
  }
}

bool Arena::contains(const void* address) const {
  const auto* at = static_cast<const std::byte*>(address);
  return at >= base_ && at < base_ + reserved_;
}

bool Arena::is_allocated(const void* data, size_t bytes) const {
  const std::lock_guard lock(mutex_);
  auto* at = static_cast<std::byte*>(const_cast<void*>(data));
  auto after = blocks_.upper_bound(at);
  if (after == blocks_.begin()) return false;
  const Block& block = std::prev(after)->second;
  return at >= block.data && at < block.data + block.bytes && bytes <= size_t(block.data + block.bytes - at);
}

size_t Arena::live_bytes() const {
  const std::lock_guard lock(mutex_);
  return live_bytes_;
}

size_t Arena::peak_bytes() const {
  const std::lock_guard lock(mutex_);
  return peak_bytes_;
}

void Arena::open() {
  const std::lock_guard lock(mutex_);
  if (num_open_++ == 0) protect_all(PROT_READ | PROT_WRITE);
}

void Arena::close() {
  const std::lock_guard lock(mutex_);
  if (--num_open_ == 0) protect_all(PROT_NONE);
}

void Arena::protect_all(int protection) {
  if (!guarded_) {
    if (used_ > 0) mprotect(base_, round_up(used_, kHugePage), protection);
    return;
  }
  for (const auto& [start, block] : blocks_) mprotect(start, block.span, protection);
}

}  // namespace emulated
