/* One accumulation of a sum of products, `acc + a * b`, on registers: its operands and its sums.
 *
 * A step says what rounds when (docs/numerics.md, section 2), and so in what form operands and sums
 * are kept: as floats; sums as halves in memory, where that rounds faster; or both as halves, where
 * the processor computes in binary16. Callers name a step by a constant, so that nothing is decided
 * when they run.
 */
#ifndef PYODL_STEPS_H
#define PYODL_STEPS_H

#include "lanes.h"

/* ---- one step of a sum of products --------------------------------------------------------- */

enum pyodl_step {
    STEP_EXACT_PRODUCT = 0, /* binary32 sum of products of halves, which are exact */
    STEP_FMA32 = 1,         /* binary32, fused */
    STEP_HALF_FMA = 2,
    STEP_HALF_MULADD = 3,
    STEP_BFLOAT_FMA = 4,
    STEP_HALF_VIA32 = 5,    /* fused in binary32, then rounded: the strided or padded direct */
    STEP_BFLOAT_VIA32 = 6,  /* input gradient, docs/numerics.md, section 5 */
    STEP_BOUNDED_MULADD = 7, /* HALF_MULADD where no sum overflows (`bounded_step`) */
    PYODL_STEPS
};

/* Whether there is a bounded step: where registers are wide, and halves are none of the processor's. */
#define PYODL_HAS_BOUNDED (PYODL_LANES == 16 && !PYODL_NATIVE_HALVES)

PYODL_INLINE int step_rounds_to_odd(int step) {
    return step == STEP_HALF_FMA || step == STEP_BFLOAT_FMA;
}

PYODL_INLINE int step_of(int arithmetic) {
    switch (arithmetic) {
    case PYODL_FP16_FP32ACC: return STEP_EXACT_PRODUCT;
    case PYODL_FP16_FMA: return STEP_HALF_FMA;
    case PYODL_FP16_MULADD: return STEP_HALF_MULADD;
    case PYODL_BF16_FMA: return STEP_BFLOAT_FMA;
    default: return STEP_FMA32;
    }
}

PYODL_INLINE lanes lanes_fma32(lanes a, lanes b, lanes c) {
#if PYODL_LANES == 16
    return (lanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif PYODL_LANES == 8
    return (lanes)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    lanes result;
    PYODL_UNROLL
    for (int i = 0; i < PYODL_LANES; i++)
        result[i] = fma_float(a[i], b[i], c[i]);
    return result;
#endif
}

/* The same where the product is exact, so that a host without FMA needs none. */
PYODL_INLINE lanes lanes_exact_fma32(lanes a, lanes b, lanes c) {
#if PYODL_LANES > 4
    return lanes_fma32(a, b, c);
#else
    return a * b + c;
#endif
}

#if PYODL_HAS_BOUNDED
/* What a rounding to binary16 in registers adds and takes away again: 2^13 times what is rounded, or
 * 0.75 where that is more. Either is a multiple of twice the unit that binary16 has there, and makes it
 * the unit of the sum; 0.75 is for subnormals, whose unit is 2^-24. */
#define PYODL_LARGER_MAGNITUDE (3 | 1 << 2) /* with its sign */

PYODL_INLINE lanes lanes_half_scale(lanes scaled) {
    return (lanes)_mm512_range_ps((__m512)scaled, _mm512_set1_ps(0.75f), PYODL_LARGER_MAGNITUDE);
}

/* a * b rounded to binary16, plus c, rounded again, where nothing overflows and c is not -0: less than
 * two thirds of the time that conversions there and back take. */
PYODL_INLINE lanes lanes_bounded_muladd(lanes a, lanes b, lanes c) {
    const lanes scale = lanes_half_scale(a * 8192.0f * b);
    const lanes product = lanes_fma32(a, b, scale) - scale;
    const lanes sum = product + c; /* a multiple of 2^-24: a half, if it is subnormal */
    return lanes_fma32(sum, lanes_of(8192.0f), sum * -8191.0f); /* Veltkamp's splitting */
}
#endif

PYODL_INLINE lanes lanes_step(int step, lanes a, lanes b, lanes c) {
    switch (step) {
#if PYODL_HAS_BOUNDED
    case STEP_BOUNDED_MULADD: return lanes_bounded_muladd(a, b, c);
#endif
    case STEP_EXACT_PRODUCT: return lanes_exact_fma32(a, b, c);
    case STEP_HALF_FMA:
#if PYODL_LANES > 4
        return lanes_rounded_half(lanes_fma_to_odd(a, b, c));
#else
        return lanes_rounded_half(lanes_half_sum_to_odd(a * b, c));
#endif
    case STEP_HALF_MULADD: return lanes_rounded_half(lanes_rounded_half(a * b) + c);
    case STEP_BFLOAT_FMA: return lanes_rounded_bfloat(lanes_fma_to_odd(a, b, c));
    case STEP_HALF_VIA32: return lanes_rounded_half(lanes_exact_fma32(a, b, c));
    case STEP_BFLOAT_VIA32: return lanes_rounded_bfloat(lanes_fma32(a, b, c));
    default: return lanes_fma32(a, b, c);
    }
}

/* ---- registers of halves --------------------------------------------------------------------- */

/* Where the processor has binary16 arithmetic, a register holds twice as many halves as floats, and
 * rounds every operation once, subnormals included. */
#if PYODL_NATIVE_HALVES
PYODL_INLINE half_lanes half_lanes_of(uint16_t half) {
    return (half_lanes)_mm512_set1_epi16((short)half);
}

PYODL_INLINE half_lanes half_lanes_from(lanes low, lanes high) {
    const __m256i halves[2] = {_mm512_cvtps_ph((__m512)low, PYODL_TO_NEAREST),
                               _mm512_cvtps_ph((__m512)high, PYODL_TO_NEAREST)};
    half_lanes joined;
    memcpy(&joined, halves, sizeof joined);
    return joined;
}

PYODL_INLINE lanes half_lanes_low(half_lanes value) {
    return (lanes)_mm512_cvtph_ps(_mm512_castsi512_si256((__m512i)value));
}

PYODL_INLINE lanes half_lanes_high(half_lanes value) {
    return (lanes)_mm512_cvtph_ps(_mm512_extracti64x4_epi64((__m512i)value, 1));
}

PYODL_INLINE half_lanes half_lanes_canonical(half_lanes value) {
    const __mmask32 unordered = _mm512_cmp_ph_mask((__m512h)value, (__m512h)value, _CMP_UNORD_Q);
    return (half_lanes)_mm512_mask_set1_epi16((__m512i)value, unordered, PYODL_NAN_FLOAT16);
}

/* Whether there is a NaN in either. */
PYODL_INLINE int half_lanes_unordered(half_lanes a, half_lanes b) {
    return _mm512_cmp_ph_mask((__m512h)a, (__m512h)b, _CMP_UNORD_Q) != 0;
}

PYODL_INLINE half_lanes half_lanes_sum(half_lanes a, half_lanes b) {
    return (half_lanes)_mm512_add_ph((__m512h)a, (__m512h)b);
}

PYODL_INLINE half_lanes half_lanes_step(int step, half_lanes a, half_lanes b, half_lanes c) {
    if (step == STEP_HALF_MULADD)
        return (half_lanes)_mm512_add_ph(_mm512_mul_ph((__m512h)a, (__m512h)b), (__m512h)c);
    return (half_lanes)_mm512_fmadd_ph((__m512h)a, (__m512h)b, (__m512h)c);
}
#else /* nobody calls them, but compilers want to see them */
#define PYODL_NEVER(TYPE, NAME, ...)                                                             \
    PYODL_INLINE TYPE NAME(__VA_ARGS__) { __builtin_unreachable(); }
PYODL_NEVER(half_lanes, half_lanes_of, uint16_t half)
PYODL_NEVER(half_lanes, half_lanes_from, lanes low, lanes high)
PYODL_NEVER(lanes, half_lanes_low, half_lanes value)
PYODL_NEVER(lanes, half_lanes_high, half_lanes value)
PYODL_NEVER(half_lanes, half_lanes_canonical, half_lanes value)
PYODL_NEVER(int, half_lanes_unordered, half_lanes a, half_lanes b)
PYODL_NEVER(half_lanes, half_lanes_step, int step, half_lanes a, half_lanes b, half_lanes c)
#undef PYODL_NEVER
#endif

/* ---- operands and sums of steps ------------------------------------------------------------- */

/* Whether a step is one of the processor's own: its operands are halves as they are stored, and
 * its registers hold twice as many. */
PYODL_INLINE int step_is_native(int step) {
    return PYODL_NATIVE_HALVES && (step == STEP_HALF_FMA || step == STEP_HALF_MULADD);
}

/* Whether sums of so many products of halves of at most these magnitudes stay far from overflow,
 * whatever roundings add: each adds one part in 2^11. */
PYODL_INLINE int sums_are_bounded(float a, float b, int64_t depth) {
    return depth <= 2048 && a * b * (float)depth <= 16384.0f;
}

/* The step to take instead where sums are bounded: the same bits, sooner. A fused one has nothing to
 * gain. */
PYODL_INLINE int bounded_step(int step) {
    return PYODL_HAS_BOUNDED && step == STEP_HALF_MULADD ? STEP_BOUNDED_MULADD : step;
}

/* The quickest step with the same bits where products are exact, and no sum is ever -0: one that may
 * become a bounded one, whose sums wait for one another a quarter as long, or else the fused one. */
PYODL_INLINE int step_of_exact_products(int step) {
    if (step == STEP_HALF_FMA || step == STEP_HALF_MULADD)
        return PYODL_HAS_BOUNDED ? STEP_HALF_MULADD : STEP_HALF_FMA;
    return step;
}

/* Whether a step is an instruction or two, so that what leads to the next k takes its share. */
PYODL_INLINE int step_is_quick(int step) {
    return step_is_native(step) || step == STEP_EXACT_PRODUCT || step == STEP_FMA32;
}

/* Whether it pays to sum weight gradients by pixels (pixels.h): not beside native steps, where a load
 * for every multiply-add in binary32 costs as much as the zeros that are left out. */
PYODL_INLINE int step_pays_by_pixels(int step) {
    return !PYODL_NATIVE_HALVES || !step_is_quick(step) || step_is_native(step);
}

/* Whether a step can round a negative sum to -0; elsewhere the accumulator never is -0. */
PYODL_INLINE int step_may_reach_negative_zero(int step) {
    return step != STEP_EXACT_PRODUCT && step != STEP_HALF_MULADD && step != STEP_BOUNDED_MULADD;
}

/* Outputs in one register. */
PYODL_INLINE int step_lanes(int step) {
    return step_is_native(step) ? 2 * PYODL_LANES : PYODL_LANES;
}

/* Bytes of an operand's element. */
PYODL_INLINE int step_operand_size(int step) { return step_is_native(step) ? 2 : 4; }

/* Whether a step's sums are kept in memory, as halves. */
PYODL_INLINE int step_keeps_halves(int step) {
    return PYODL_LANES >= 8 && !step_is_native(step) &&
           (step == STEP_HALF_FMA || step == STEP_HALF_MULADD || step == STEP_HALF_VIA32);
}

/* Whether tiles are cut anew from strips of a plan's tiles (tile.h): where a step takes long, and the
 * fewest rows that are computed for nothing count most. */
PYODL_INLINE int step_cuts_strips(int step) {
    return step_keeps_halves(step) || step == STEP_BOUNDED_MULADD;
}

/* A register of operands, of which a step uses one member. */
typedef struct {
    lanes values;
    half_lanes halves;
} operand;

PYODL_INLINE const void *operand_at(int step, const void *array, int64_t i) {
    return (const char *)array + i * step_operand_size(step);
}

PYODL_INLINE float operand_value(int step, const void *array, int64_t i) {
    return load_value(step_is_native(step) ? PYODL_FLOAT16 : PYODL_FLOAT32, array, i);
}

PYODL_INLINE operand operand_load(int step, const void *array, int64_t i) {
    operand loaded;
    if (step_is_native(step))
        loaded.halves = half_lanes_load((const uint16_t *)array + i);
    else
        loaded.values = lanes_load((const float *)array + i);
    return loaded;
}

/* One element in all lanes. */
PYODL_INLINE operand operand_of(int step, const void *element) {
    operand spread;
    if (step_is_native(step))
        spread.halves = half_lanes_of(*(const uint16_t *)element);
    else
        spread.values = lanes_of(*(const float *)element);
    return spread;
}

#define PYODL_SUMS 24 /* of a tile, at most */

typedef struct {
    lanes values[PYODL_SUMS];
    half_lanes halves[PYODL_SUMS];
#if PYODL_LANES >= 8
    half_slot slots[PYODL_SUMS];
#endif
} running_sums; /* of which a step uses one array */

#if PYODL_LANES >= 8
PYODL_INLINE void slot_step(int step, lanes a, lanes b, half_slot *sum) {
    const lanes c = slot_load(sum);
    half_slot product;
    switch (step) {
    case STEP_HALF_FMA: slot_store(sum, lanes_fma_to_odd(a, b, c)); break;
    case STEP_HALF_MULADD:
        slot_store(&product, a * b);
        slot_store(sum, slot_load(&product) + c);
        break;
    default: slot_store(sum, lanes_exact_fma32(a, b, c));
    }
}
#endif

/* ---- sums in memory ------------------------------------------------------------------------- */

/* Bytes of a register of sums that is kept in memory. */
PYODL_INLINE int step_sum_size(int step) {
    return (step_keeps_halves(step) ? 2 : 4) * PYODL_LANES;
}

PYODL_INLINE void add_to_stored_sum(int step, operand a, operand b, void *sum) {
#if PYODL_LANES >= 8
    if (step_keeps_halves(step)) {
        slot_step(step, a.values, b.values, (half_slot *)sum);
        return;
    }
#endif
    lanes_store((float *)sum, lanes_step(step, a.values, b.values, lanes_load((float *)sum)));
}

/* Round such sums to halves. */
PYODL_INLINE void round_stored_sum(int step, const void *sum, uint16_t *target) {
    if (step_keeps_halves(step))
        memcpy(target, sum, 2 * PYODL_LANES);
    else
        lanes_to_half(target, lanes_load((const float *)sum));
}

/* ---- sums of a tile -------------------------------------------------------------------------- */

/* Begin a sum with values of the accumulator's format, one a lane. */
PYODL_INLINE void begin_sum(int step, running_sums *sums, int n, const float *start) {
    if (step_is_native(step))
        sums->halves[n] = half_lanes_from(lanes_load(start), lanes_load(start + PYODL_LANES));
#if PYODL_LANES >= 8
    else if (step_keeps_halves(step))
        slot_store(&sums->slots[n], lanes_load(start));
#endif
    else
        sums->values[n] = lanes_load(start);
}

/* Begin a sum with a zero. */
PYODL_INLINE void begin_sum_of_zero(int step, running_sums *sums, int n, float zero) {
    if (step_is_native(step))
        sums->halves[n] = half_lanes_of(half_from_float(zero));
#if PYODL_LANES >= 8
    else if (step_keeps_halves(step))
        slot_store(&sums->slots[n], lanes_of(zero));
#endif
    else
        sums->values[n] = lanes_of(zero);
}

PYODL_INLINE void add_to_sum(int step, operand a, operand b, running_sums *sums, int n) {
    if (step_is_native(step))
        sums->halves[n] = half_lanes_step(step, a.halves, b.halves, sums->halves[n]);
#if PYODL_LANES >= 8
    else if (step_keeps_halves(step))
        slot_step(step, a.values, b.values, &sums->slots[n]);
#endif
    else
        sums->values[n] = lanes_step(step, a.values, b.values, sums->values[n]);
}

/* Store a sum as floats, one a lane. */
PYODL_INLINE void end_sum(int step, const running_sums *sums, int n, float *target) {
    if (step_is_native(step)) {
        lanes_store(target, half_lanes_low(sums->halves[n]));
        lanes_store(target + PYODL_LANES, half_lanes_high(sums->halves[n]));
    }
#if PYODL_LANES >= 8
    else if (step_keeps_halves(step))
        lanes_store(target, slot_load(&sums->slots[n]));
#endif
    else
        lanes_store(target, sums->values[n]);
}

/* Round and store a sum whose NaNs are canonical. */
PYODL_INLINE void put_sum(int step, int format, const running_sums *sums, int n, void *array,
                          int64_t i) {
    if (step_is_native(step))
        half_lanes_store((uint16_t *)array + i, sums->halves[n]);
#if PYODL_LANES >= 8
    else if (step_keeps_halves(step))
        memcpy((uint16_t *)array + i, &sums->slots[n], sizeof sums->slots[n]);
#endif
    else
        lanes_store_canonical(format, array, i, sums->values[n]);
}

/* Whether there is a NaN in either of two sums. */
PYODL_INLINE int sums_unordered(int step, const running_sums *sums, int n, int other) {
    if (step_is_native(step))
        return half_lanes_unordered(sums->halves[n], sums->halves[other]);
#if PYODL_LANES >= 8
    if (step_keeps_halves(step))
        return lanes_unordered(slot_load(&sums->slots[n]), slot_load(&sums->slots[other]));
#endif
    return lanes_unordered(sums->values[n], sums->values[other]);
}

/* A step of an arithmetic on lanes in the ordinary rounding mode, for element-wise work. */
PYODL_INLINE lanes lanes_fma_step(int arithmetic, lanes a, lanes b, lanes c) {
    lanes result;
    switch (arithmetic) {
    case PYODL_FP16_FMA:
#if PYODL_LANES == 16
        return lanes_rounded_half(lanes_fma_to_odd(a, b, c));
#else /* whose rounding to odd wants another rounding mode */
        return lanes_rounded_half(lanes_half_sum_to_odd(a * b, c));
#endif
    case PYODL_BF16_FMA:
        for (int i = 0; i < PYODL_LANES; i++)
            result[i] = fma_step(arithmetic, a[i], b[i], c[i]);
        return result;
    default: return lanes_step(step_of(arithmetic), a, b, c);
    }
}

/* The same step on one value, in the ordinary rounding mode. */
PYODL_INLINE float value_step(int step, float a, float b, float c) {
    switch (step) {
    case STEP_HALF_FMA: return fma_step(PYODL_FP16_FMA, a, b, c);
    case STEP_HALF_MULADD:
    case STEP_BOUNDED_MULADD: return fma_step(PYODL_FP16_MULADD, a, b, c);
    case STEP_BFLOAT_FMA: return fma_step(PYODL_BF16_FMA, a, b, c);
    case STEP_HALF_VIA32: return round_value(PYODL_FLOAT16, fma_float(a, b, c));
    case STEP_BFLOAT_VIA32: return round_value(PYODL_BFLOAT16, fma_float(a, b, c));
    default: return fma_float(a, b, c);
    }
}

/* The accumulator format of a step. */
PYODL_INLINE int step_format(int step) {
    switch (step) {
    case STEP_EXACT_PRODUCT:
    case STEP_FMA32: return PYODL_FLOAT32;
    case STEP_BFLOAT_FMA:
    case STEP_BFLOAT_VIA32: return PYODL_BFLOAT16;
    default: return PYODL_FLOAT16;
    }
}

#endif
