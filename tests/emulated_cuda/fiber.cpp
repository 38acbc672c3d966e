// tests/emulated_cuda/fiber.cpp: switching between stacks without a system call.
#include "tests/emulated_cuda/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>

#include "tests/emulated_cuda/report.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

#if defined(SHOAL_EMULATED_CUDA_ASSEMBLY)
// void emulated_switch_stack(void** save, void* next): all that a System V callee preserves goes onto the old stack,
// and comes from the new one.
asm(R"(
.text
.p2align 4
.globl emulated_switch_stack
.hidden emulated_switch_stack
.type emulated_switch_stack, @function
emulated_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  subq $8, %rsp
  stmxcsr (%rsp)
  fnstcw 4(%rsp)
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  ldmxcsr (%rsp)
  fldcw 4(%rsp)
  addq $8, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulated_switch_stack, . - emulated_switch_stack
)");
extern "C" void emulated_switch_stack(void** save, void* next);
#endif

namespace emulated {
namespace {

constexpr size_t kPage = 4096;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kStackBytes = size_t{256} << 10;  // instrumented frames are several times larger
#else
constexpr size_t kStackBytes = size_t{64} << 10;
#endif

constinit thread_local Fiber* switching_from = nullptr;
constinit thread_local Fiber* switching_to = nullptr;

}  // namespace

Fiber::Fiber() {
#if defined(__SANITIZE_THREAD__)
  race_context_ = __tsan_get_current_fiber();
#endif
}

Fiber::Fiber(void (*entry)()) : entry_(entry) {
  void* memory = mmap(nullptr, kPage + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) die("no memory for the stack of a CUDA thread");
  mapping_ = static_cast<std::byte*>(memory);
  mprotect(mapping_, kPage, PROT_NONE);  // fails beyond the system's number of mappings; only a guard is lost
  stack_bottom_ = mapping_ + kPage;
  stack_bytes_ = kStackBytes;
#if defined(__SANITIZE_THREAD__)
  race_context_ = __tsan_create_fiber(0);
#endif
#if defined(SHOAL_EMULATED_CUDA_ASSEMBLY)
  // As emulated_switch_stack leaves it: control words, six registers, the address to return to, and, as if called
  // from it, a null frame that ends backtraces.
  struct Frame {
    uint32_t mxcsr;
    uint32_t x87_control;
    uint64_t registers[6];
    void (*return_to)();
    uint64_t end_of_stack;
  };
  static_assert(sizeof(Frame) % 16 == 8);
  std::byte* top = mapping_ + kPage + kStackBytes;
  Frame frame{};
  uint16_t x87_control = 0;
  asm("stmxcsr %0" : "=m"(frame.mxcsr));
  asm("fnstcw %0" : "=m"(x87_control));
  frame.x87_control = x87_control;
  frame.return_to = &Fiber::first_entry;
  stack_pointer_ = top - sizeof(Frame);
  std::memcpy(stack_pointer_, &frame, sizeof frame);
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = mapping_ + kPage;
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::first_entry, 0);
#endif
}

Fiber::~Fiber() {
  if (mapping_ == nullptr) return;
#if defined(__SANITIZE_THREAD__)
  __tsan_destroy_fiber(race_context_);
#endif
  munmap(mapping_, kPage + kStackBytes);
}

bool Fiber::guards(const void* address) const {
  const auto* at = static_cast<const std::byte*>(address);
  return mapping_ != nullptr && at >= mapping_ && at < mapping_ + kPage;
}

[[gnu::noinline, gnu::no_sanitize_thread]] void Fiber::switch_to(Fiber& next) {
  switching_from = this;
  switching_to = &next;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fake_stack_, next.stack_bottom_, next.stack_bytes_);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(next.race_context_, 0);
#endif
#if defined(SHOAL_EMULATED_CUDA_ASSEMBLY)
  emulated_switch_stack(&stack_pointer_, next.stack_pointer_);
#else
  swapcontext(&context_, &next.context_);
#endif
  arrive();
}

[[gnu::no_sanitize_thread]] void Fiber::first_entry() {
  switching_to->arrive();
  switching_to->entry_();
  die("a fiber's function returned");
}

// AddressSanitizer tells where the stack is that we came from: so the OS thread's own becomes known.
void Fiber::arrive() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack_, &switching_from->stack_bottom_, &switching_from->stack_bytes_);
#endif
}

}  // namespace emulated
