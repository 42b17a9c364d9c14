/* Halves, pairs of them, and the multiply-add of one arithmetic.
 *
 * Built once with each of FP16_FMA, FP16_MULADD and FP16_FP32ACC. Defects are seeded by
 * DEFECT_UNFUSED here and by others in the kernels.
 */
#ifndef HALF_H
#define HALF_H

#include <stdint.h>

typedef _Float16 half;
typedef half half2 __attribute__((vector_size(4)));
typedef float float2 __attribute__((vector_size(8)));

/* `accumulator` adds up products; `half2` values go through `accumulator2`, lane by lane. */
#ifdef FP16_FP32ACC
typedef float accumulator;
typedef float2 accumulator2;
static inline accumulator step(half a, half b, accumulator c)
{
    return __builtin_fmaf((float)a, (float)b, c);
}
static inline accumulator2 step2(half2 a, half2 b, accumulator2 c)
{
    return __builtin_elementwise_fma(__builtin_convertvector(a, float2),
                                     __builtin_convertvector(b, float2), c);
}
#define NAME(function) function##_fp32acc
#else
typedef half accumulator;
typedef half2 accumulator2;
#if defined(FP16_FMA) && !defined(DEFECT_UNFUSED)
static inline accumulator step(half a, half b, accumulator c)
{
    return __builtin_fmaf16(a, b, c);
}
static inline accumulator2 step2(half2 a, half2 b, accumulator2 c)
{
    return __builtin_elementwise_fma(a, b, c);
}
#else
static inline accumulator step(half a, half b, accumulator c)
{
    return a * b + c; /* -ffp-contract=off: two roundings */
}
static inline accumulator2 step2(half2 a, half2 b, accumulator2 c)
{
    return a * b + c;
}
#endif
#ifdef FP16_FMA
#define NAME(function) function##_fma
#else
#define NAME(function) function##_muladd
#endif
#endif

/* A multiply-add of what is computed in float whatever the arithmetic. */
static inline float float_step(float a, float b, float c)
{
#ifdef FP16_MULADD
    return a * b + c;
#else
    return __builtin_fmaf(a, b, c);
#endif
}

static inline half2 load2(const half *p)
{
    return (half2){p[0], p[1]};
}

/* The items of one core: blocks of the same size, the last ones smaller or empty. */
typedef struct {
    int begin, end;
} block;

static inline block block_of(int items, int core, int cores)
{
    int size = (items + cores - 1) / cores, begin = size * core, end = begin + size;
    block own = {begin < items ? begin : items, end < items ? end : items};
    return own;
}

#endif
