// core/base/checksum.h: XXH3 over what goes to disk and comes from it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace shoal {

uint64_t xxh3_64(const void* data, int64_t bytes);
// 32 hexadecimal digits.
std::string xxh3_128_text(std::string_view data);

// XXH3-64 of a stream.
class Checksum64 {
 public:
  Checksum64();
  ~Checksum64();
  Checksum64(const Checksum64&) = delete;
  Checksum64& operator=(const Checksum64&) = delete;

  void add(const void* data, int64_t bytes);
  // Of what was added so far: as xxh3_64 of it in one piece.
  uint64_t value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// XXH3-128 of a stream.
class Checksum128 {
 public:
  Checksum128();
  ~Checksum128();
  Checksum128(Checksum128&&) noexcept;
  Checksum128& operator=(Checksum128&&) = delete;

  void add(const void* data, int64_t bytes);
  // 32 hexadecimal digits of what was added so far.
  std::string text() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace shoal
