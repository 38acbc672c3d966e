// tests/emulated_cuda/report.h: the sentence before an abort, and the handler of forbidden accesses.
#pragma once

#include <cstddef>

namespace emulated {

// Prints "emulated CUDA: " and the sentence to stderr, and aborts.
[[noreturn, gnu::format(printf, 1, 2)]] void die(const char* format, ...);

// Explains a segmentation fault on device memory or in a kernel, others go to the handler that was there before. Cheap
// when it is in place; test runners that install their own make it necessary to look again.
void install_fault_handler();

// Where the calling OS thread is in a kernel: "block (x, y, z), thread (x, y, z)". False outside of kernels.
bool describe_position(char* text, size_t size);
// Whether the address is the guard of a stack of the calling OS thread's fibers.
bool is_stack_guard(const void* address);

}  // namespace emulated
