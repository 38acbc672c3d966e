// core/base/checksum.cpp: the xxHash library, in its canonical byte order.
#include "core/base/checksum.h"

#include <fmt/format.h>
// Compiled here, with the instructions that this build is for: the library as packaged knows SSE2 alone.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace shoal {

namespace {

std::string text_of(XXH128_hash_t hash) { return fmt::format("{:016x}{:016x}", hash.high64, hash.low64); }

}  // namespace

struct Checksum64::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

Checksum64::Checksum64() : state_(std::make_unique<State>()) { XXH3_64bits_reset(state_->xxh); }
Checksum64::~Checksum64() = default;

void Checksum64::add(const void* data, int64_t bytes) {
  XXH3_64bits_update(state_->xxh, data, static_cast<size_t>(bytes));
}

uint64_t Checksum64::value() const { return XXH3_64bits_digest(state_->xxh); }

struct Checksum128::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

Checksum128::Checksum128() : state_(std::make_unique<State>()) { XXH3_128bits_reset(state_->xxh); }
Checksum128::~Checksum128() = default;
Checksum128::Checksum128(Checksum128&&) noexcept = default;

void Checksum128::add(const void* data, int64_t bytes) {
  XXH3_128bits_update(state_->xxh, data, static_cast<size_t>(bytes));
}

std::string Checksum128::text() const { return text_of(XXH3_128bits_digest(state_->xxh)); }

uint64_t xxh3_64(const void* data, int64_t bytes) { return XXH3_64bits(data, static_cast<size_t>(bytes)); }

std::string xxh3_128_text(std::string_view data) { return text_of(XXH3_128bits(data.data(), data.size())); }

}  // namespace shoal
