// tests/parallel/failing_job.cpp: a job that fails in the way its argument names; failing_job_test.py watches how it
// ends.
#include <csignal>
#include <exception>
#include <string>

#include "parallel/link_model.h"
#include "parallel/mpi_session.h"
#include "tests/parallel/different_calls.h"

namespace {

using namespace shoal;

// Two microbatches; the second one's second sum is never posted on rank 1.
void run_two_lanes(Communicator& world, const Tensor& x, Allocator& allocator) {
  Stream stream(allocator);
  Lane first(stream, 0), second(stream, 1);
  const auto walk = [&](Lane& lane) -> Task<void> {
    for (int i = 0; i < 3; ++i) {
      if (i == 1 && lane.index() == 1 && world.rank() == 1) fail("token 9 of document 4 is beyond the vocabulary");
      const Tensor sum = stream.activation(x.shape(), x.dtype());
      co_await lane.wire(world.all_reduce(sum), WireKind::kTensor);
    }
  };
  Lane* const lanes[] = {&first, &second};
  std::vector<Task<void>> tasks;
  tasks.push_back(walk(first));
  tasks.push_back(walk(second));
  run_lanes(lanes, std::move(tasks));
}

// What a rank does until it fails, or for ever: its peers wait for it in the middle of a large sum.
void work(const std::string& how, MpiSession& session) {
  Allocator allocator(DeviceKind::kCpu);
  const Tensor x = Tensor::zeros({1 << 20}, DType::kF32, allocator, MemoryKind::kActivations);
  if (how == "messages are on their way for an hour") {
    const LinkSpeed speed{.bytes_per_s = 1e3, .latency_s = 0};
    const auto slow = session.world(allocator, {.emulate = EmulatedLinks{.intra_node = speed}});
    const OperationPtr sum = slow->all_reduce(x);
    if (session.rank() == 1) fail("token 9 of document 4 is beyond the vocabulary");
    wait(sum);
  }
  if (find_different_calls(how) != nullptr) return run_different_calls(how, *session.world(allocator), allocator);
  const auto world = session.world(allocator);
  if (how == "a lane fails beside one that waits") run_two_lanes(*world, x, allocator);
  wait(world->all_reduce(x));
  if (how == "all ranks") fail("configs/none.textproto: no such file");
  if (how == "a rank is killed" && session.rank() == 1) std::raise(SIGKILL);
  if (how == "one rank" && session.rank() == 1) fail("token 9 of document 4 is beyond the vocabulary");
  wait(world->all_reduce(x));
  wait(world->barrier());
}

}  // namespace

int main(int argc, char** argv) {
  const std::string how = argc > 1 ? argv[1] : "";
  if (how == "an exception leaves the session") {
    try {
      MpiSession session;
      if (session.rank() == 1) fail("nobody catches this inside the session");
      work(how, session);
    } catch (const std::exception&) {
    }
    return 0;
  }
  MpiSession session;
  try {
    work(how, session);
  } catch (const std::exception& error) {
    session.abort(3, error.what());
  }
  return 0;
}
