// tests/test_main.cpp: Catch2's runner, with MPI started when mpirun started us.
//
// A rank that fails before a collective would leave the others waiting: the first failed assertion aborts the job.
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <mpi.h>

#include <cstdio>
#include <cstdlib>

#include "core/base/cuda_backend.h"
#include "tests/device_under_test.h"

namespace {

constexpr int kSkipped = 77;  // as tests/CMakeLists.txt tells CTest

bool under_mpirun() { return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr; }

struct AbortOnFailure : Catch::TestEventListenerBase {
  using TestEventListenerBase::TestEventListenerBase;
  bool assertionEnded(const Catch::AssertionStats& stats) override {
    if (!stats.assertionResult.isOk() && under_mpirun()) {
      const Catch::AssertionResult& result = stats.assertionResult;
      for (const Catch::MessageInfo& info : stats.infoMessages) std::fprintf(stderr, "%s\n", info.message.c_str());
      std::fprintf(stderr, "%s:%zu: %s\n", result.getSourceInfo().file, result.getSourceInfo().line,
                   result.getExpandedExpression().c_str());
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
    return true;
  }
};
CATCH_REGISTER_LISTENER(AbortOnFailure)

}  // namespace

int main(int argc, char** argv) {
  if (shoal::device_under_test() == shoal::DeviceKind::kCuda) {
    if (shoal::cuda_device_count() == 0) {
      std::printf("skipped: %s\n", shoal::cuda_is_built() ? "this machine has no CUDA device" : "built without CUDA");
      return kSkipped;
    }
    shoal::use_cuda_device(0);
  }
  if (!under_mpirun()) return Catch::Session().run(argc, argv) == 0 ? 0 : 1;  // not the number of failures: 77 skips
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  // Every rank would print the same report.
  if (rank > 0 && std::freopen("/dev/null", "w", stdout) == nullptr) return 1;
  const int failures = Catch::Session().run(argc, argv);
  MPI_Finalize();
  return failures;
}
