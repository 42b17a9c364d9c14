/* What the host can run, and whether this build has OpenMP. */
#ifndef PYODL_HOST_H
#define PYODL_HOST_H

#include <time.h>

#ifdef _OPENMP
#include <omp.h>
static inline int host_has_openmp(void) { return 1; }
static inline int host_processors(void) { return omp_get_num_procs(); }
#else
static inline int host_has_openmp(void) { return 0; }
static inline int host_processors(void) { return 1; }
#endif

/* Seconds since some moment. */
static inline double host_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#if defined(__x86_64__)
#include <cpuid.h>

/* Older compilers do not know these by name. */
static inline int host_has_f16c(void) {
    unsigned int eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & (1u << 29));
}

static inline int host_has_avx512_fp16(void) {
    unsigned int eax, ebx, ecx, edx;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & (1u << 23));
}
#endif

/* The highest x86-64 level of the running processor: 4, 3 or 1; 5 where it computes in binary16, too;
 * 0 on any other architecture. */
static inline int host_x86_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
          __builtin_cpu_supports("bmi2") && host_has_f16c()))
        return 1;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return host_has_avx512_fp16() ? 5 : 4;
    return 3;
#else
    return 0;
#endif
}

#endif
