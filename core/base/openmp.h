// core/base/openmp.h: OpenMP's questions, with the answers of one thread in a build without it.
//
// ThreadSanitizer's is one: it cannot see that OpenMP's threads wait for each other.
#pragma once

#ifdef _OPENMP
#include <omp.h>
#else
inline int omp_get_thread_num() { return 0; }
inline int omp_get_max_threads() { return 1; }
inline void omp_set_num_threads(int /*threads*/) {}
inline void omp_set_dynamic(int /*dynamic*/) {}
#endif
