// parallel/shared_memory.cpp: one rank makes it under a name, all map it, the name goes.
#include "parallel/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "core/base/check.h"
#include "parallel/mpi_progress.h"

namespace shoal {

namespace {

using Name = std::array<char, 64>;

class SharedFile {
 public:
  SharedFile(const Name& name, int flags) : descriptor_(shm_open(name.data(), flags, S_IRUSR | S_IWUSR)) {}
  ~SharedFile() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;

  // Null, and errno, where it cannot be had.
  std::shared_ptr<std::byte> map(size_t bytes) const {
    if (descriptor_ < 0) return nullptr;
    void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, 0);
    if (memory == MAP_FAILED) return nullptr;
    return {static_cast<std::byte*>(memory), [bytes](std::byte* p) { munmap(p, bytes); }};
  }
  // All of it: what a file system cannot give is refused now, not by a signal later.
  bool resize(size_t bytes) const {
    if (descriptor_ < 0) return false;
    errno = posix_fallocate(descriptor_, 0, static_cast<off_t>(bytes));
    return errno == 0;
  }

 private:
  int descriptor_;
};

Name new_name() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  Name name{};
  const std::string text = fmt::format("/shoal-{}-{:x}", getpid(), now);
  text.copy(name.data(), name.size() - 1);
  return name;
}

}  // namespace

std::shared_ptr<std::byte> share_memory(MPI_Comm comm, int64_t bytes, const std::function<void(std::byte*)>& prepare) {
  int rank = 0;
  check_mpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
  const auto size = static_cast<size_t>(bytes);
  Name name{};
  std::shared_ptr<std::byte> memory;
  int error = 0;
  if (rank == 0) {
    name = new_name();
    const SharedFile file(name, O_RDWR | O_CREAT | O_EXCL);
    if (file.resize(size)) memory = file.map(size);
    if (memory == nullptr) error = errno;
    if (memory != nullptr) prepare(memory.get());
  }
  check_mpi(MPI_Bcast(name.data(), static_cast<int>(name.size()), MPI_CHAR, 0, comm), "MPI_Bcast");
  if (rank > 0) {
    memory = SharedFile(name, O_RDWR).map(size);
    if (memory == nullptr) error = errno;
  }
  int num_with = memory != nullptr ? 1 : 0, num_ranks = 0;
  const int code = MPI_Allreduce(MPI_IN_PLACE, &num_with, 1, MPI_INT, MPI_SUM, comm);
  if (rank == 0) shm_unlink(name.data());
  check_mpi(code, "MPI_Allreduce");
  check_mpi(MPI_Comm_size(comm, &num_ranks), "MPI_Comm_size");
  if (num_with == num_ranks) return memory;
  if (memory == nullptr) fail("{} bytes of shared memory (/dev/shm) cannot be had: {}", bytes, std::strerror(error));
  fail("{} of {} ranks could not have the {} bytes of shared memory (/dev/shm) that all of them need",
       num_ranks - num_with, num_ranks, bytes);
}

}  // namespace shoal
