/* What the processor can do at best: fused multiply-adds on registers, with nothing to load. */
#ifndef PYODL_PEAK_H
#define PYODL_PEAK_H

#include "steps.h"

/* Sums that do not wait for each other: enough for two FMA units that take 4 or 5 cycles, and few
 * enough to stay in registers. */
#if PYODL_LANES == 16
#define PYODL_PEAK_SUMS 24 /* of 32 registers */
#else
#define PYODL_PEAK_SUMS 12 /* of 16 */
#endif

/* `rounds` multiply-adds on each of the sums, which start apart lest a compiler keep only one, and
 * go through the product lest it be taken out of the loop. Returns their total, so that none is
 * dropped as unused. On a host without FMA a step is a product and a sum, as in the kernels. */
PYODL_INLINE float fma_rounds(int64_t rounds, float factor) {
    const lanes a = lanes_of(factor), b = lanes_of(0.25f);
    lanes sums[PYODL_PEAK_SUMS], total = lanes_of(0.0f);
    float result = 0.0f;
    PYODL_UNROLL
    for (int i = 0; i < PYODL_PEAK_SUMS; i++)
        sums[i] = lanes_of((float)(i + 1));
    for (int64_t round = 0; round < rounds; round++) {
        PYODL_UNROLL
        for (int i = 0; i < PYODL_PEAK_SUMS; i++)
            sums[i] = lanes_exact_fma32(sums[i], a, b);
    }
    for (int i = 0; i < PYODL_PEAK_SUMS; i++)
        total += sums[i];
    for (int i = 0; i < PYODL_LANES; i++)
        result += total[i];
    return result;
}

/* The same in binary16, where a step is one of the processor's own. */
PYODL_INLINE float half_rounds(int64_t rounds, float factor) {
    const half_lanes a = half_lanes_of(half_from_float(factor));
    const half_lanes b = half_lanes_of(half_from_float(0.25f));
    half_lanes sums[PYODL_PEAK_SUMS];
    float result = 0.0f;
    PYODL_UNROLL
    for (int i = 0; i < PYODL_PEAK_SUMS; i++)
        sums[i] = half_lanes_of(half_from_float((float)(i + 1)));
    for (int64_t round = 0; round < rounds; round++) {
        PYODL_UNROLL
        for (int i = 0; i < PYODL_PEAK_SUMS; i++)
            sums[i] = half_lanes_step(STEP_HALF_FMA, sums[i], a, b);
    }
    for (int i = 0; i < PYODL_PEAK_SUMS; i++)
        result += half_lanes_low(sums[i])[0];
    return result;
}

PYODL_INLINE float peak_rounds(int arithmetic, int64_t rounds, float factor) {
    return step_is_native(step_of(arithmetic)) ? half_rounds(rounds, factor)
                                               : fma_rounds(rounds, factor);
}

#endif
