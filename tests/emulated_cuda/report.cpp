// tests/emulated_cuda/report.cpp: sentences for errors that a kernel or a host function cannot return.
#include "tests/emulated_cuda/report.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "tests/emulated_cuda/arena.h"

namespace emulated {
namespace {

constexpr size_t kSignalStackBytes = size_t{64} << 10;

struct sigaction previous_handler;
std::mutex handler_mutex;

void on_fault(int signal_number, siginfo_t* info, void* context) {
  const void* address = info->si_addr;
  char position[128];
  if (describe_position(position, sizeof position)) {
    if (is_stack_guard(address)) die("kernel overflowed the stack of %s", position);
    // The processor does not say which address it was when it is none that a process can have.
    if (info->si_code == SI_KERNEL) die("kernel touched an impossible address, %s", position);
    die("kernel touched address %p outside of any allocation, %s", address, position);
  }
  if (Arena::instance().contains(address)) die("host code touched device memory at %p", address);
  if ((previous_handler.sa_flags & SA_SIGINFO) != 0) return previous_handler.sa_sigaction(signal_number, info, context);
  if (previous_handler.sa_handler != SIG_DFL && previous_handler.sa_handler != SIG_IGN) {
    return previous_handler.sa_handler(signal_number);
  }
  signal(signal_number, SIG_DFL);  // the instruction runs again, and the process ends
}

// A fault on a full stack needs another to run on. Never released: a fault may come as late as the thread lives.
void ensure_signal_stack() {
  static thread_local bool done = false;
  if (done) return;
  done = true;
  stack_t current{};
  if (sigaltstack(nullptr, &current) != 0 || (current.ss_flags & SS_DISABLE) == 0) return;
  static thread_local struct SignalStack {
    void* memory = mmap(nullptr, kSignalStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SignalStack() {
      if (memory == MAP_FAILED) return;
      stack_t stack{};
      stack.ss_sp = memory;
      stack.ss_size = kSignalStackBytes;
      sigaltstack(&stack, nullptr);
    }
    ~SignalStack() {
      if (memory == MAP_FAILED) return;
      stack_t none{};
      none.ss_flags = SS_DISABLE;
      sigaltstack(&none, nullptr);
      munmap(memory, kSignalStackBytes);
    }
  } stack;
}

}  // namespace

void die(const char* format, ...) {
  char text[1024];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  std::fprintf(stderr, "emulated CUDA: %s\n", text);
  std::fflush(stderr);
  std::abort();
}

void install_fault_handler() {
  ensure_signal_stack();
  struct sigaction current {};
  if (sigaction(SIGSEGV, nullptr, &current) == 0 && (current.sa_flags & SA_SIGINFO) != 0 &&
      current.sa_sigaction == on_fault) {
    return;
  }
  const std::lock_guard lock(handler_mutex);
  struct sigaction ours {};
  ours.sa_sigaction = on_fault;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  struct sigaction replaced {};
  if (sigaction(SIGSEGV, &ours, &replaced) != 0) return;
  if ((replaced.sa_flags & SA_SIGINFO) == 0 || replaced.sa_sigaction != on_fault) previous_handler = replaced;
}

}  // namespace emulated
