/* expf and logf, correctly rounded for every binary32, with no call to the host's libm.
 *
 * Both are evaluated as high + low in binary64 and rounded once to binary32. The error of
 * high + low is about 2^-59 of the result, and below 2^-64 for logf. The nearest that an exact value
 * comes to a tie is 2^-52.6 of it for expf and 2^-57.8 for logf (of 1.3e23, where 2^-64 is 2^-69 of
 * it); tools/transcendental.py compares every argument. Only +, - and * of binary64 occur, each
 * rounded as IEEE 754 says, so that the bits are the same on every host.
 */
#ifndef PYODL_TRANSCENDENTAL_H
#define PYODL_TRANSCENDENTAL_H

#include "formats.h"

/* 2^(i/32), high and low. */
static const double pyodl_exp_table[32][2] = {
    {0x1p+0, 0x0p+0}, {0x1.059b0d3158574p+0, 0x1.d73e2a475b465p-55},
    {0x1.0b5586cf9890fp+0, 0x1.8a62e4adc610bp-54}, {0x1.11301d0125b51p+0, -0x1.6c51039449b3ap-54},
    {0x1.172b83c7d517bp+0, -0x1.19041b9d78a76p-55}, {0x1.1d4873168b9aap+0, 0x1.e016e00a2643cp-54},
    {0x1.2387a6e756238p+0, 0x1.9b07eb6c70573p-54}, {0x1.29e9df51fdee1p+0, 0x1.612e8afad1255p-55},
    {0x1.306fe0a31b715p+0, 0x1.6f46ad23182e4p-55}, {0x1.371a7373aa9cbp+0, -0x1.63aeabf42eae2p-54},
    {0x1.3dea64c123422p+0, 0x1.ada0911f09ebcp-55}, {0x1.44e086061892dp+0, 0x1.89b7a04ef80d0p-59},
    {0x1.4bfdad5362a27p+0, 0x1.d4397afec42e2p-56}, {0x1.5342b569d4f82p+0, -0x1.07abe1db13cadp-55},
    {0x1.5ab07dd485429p+0, 0x1.6324c054647adp-54}, {0x1.6247eb03a5585p+0, -0x1.383c17e40b497p-54},
    {0x1.6a09e667f3bcdp+0, -0x1.bdd3413b26456p-54}, {0x1.71f75e8ec5f74p+0, -0x1.16e4786887a99p-55},
    {0x1.7a11473eb0187p+0, -0x1.41577ee04992fp-55}, {0x1.82589994cce13p+0, -0x1.d4c1dd41532d8p-54},
    {0x1.8ace5422aa0dbp+0, 0x1.6e9f156864b27p-54}, {0x1.93737b0cdc5e5p+0, -0x1.75fc781b57ebcp-57},
    {0x1.9c49182a3f090p+0, 0x1.c7c46b071f2bep-56}, {0x1.a5503b23e255dp+0, -0x1.d2f6edb8d41e1p-54},
    {0x1.ae89f995ad3adp+0, 0x1.7a1cd345dcc81p-54}, {0x1.b7f76f2fb5e47p+0, -0x1.5584f7e54ac3bp-56},
    {0x1.c199bdd85529cp+0, 0x1.11065895048ddp-55}, {0x1.cb720dcef9069p+0, 0x1.503cbd1e949dbp-56},
    {0x1.d5818dcfba487p+0, 0x1.2ed02d75b3707p-55}, {0x1.dfc97337b9b5fp+0, -0x1.1a5cd4f184b5cp-54},
    {0x1.ea4afa2a490dap+0, -0x1.e9c23179c2893p-54}, {0x1.f50765b6e4540p+0, 0x1.9d3e12dd8a18bp-54},
};

PYODL_INLINE float exp_float(float argument) {
    const double to_integer = 0x1.8p52; /* added, it leaves an integer in the last bits */
    double x = (double)argument;
    if (argument != argument)
        return float_from_bits(PYODL_NAN_FLOAT32);
    x = x > 89.0 ? 89.0 : x;     /* overflows from 88.73 on */
    x = x < -104.0 ? -104.0 : x; /* e^-104 is less than half the smallest subnormal */

    /* x = n ln2/32 + r: n times the 40-bit high part, and the difference, are exact. */
    const double shifted = x * 0x1.71547652b82fep+5 + to_integer;
    const double n = shifted - to_integer;
    const int64_t steps = (int64_t)(double_bits(shifted) << 13) >> 13;
    const double r_high = x - n * 0x1.62e42fefa4p-6;
    const double r_low = n * 0x1.8432a1b0e2634p-48;
    const double r = r_high + r_low;
    const double r_back = r - r_high;
    const double r_error = (r_high - (r - r_back)) + (r_low - r_back);

    /* e^r - 1 - r by its Taylor series: |r| < 0.0109. */
    const double tail = r_error + r * r *
        (1.0 / 2 + r * (1.0 / 6 + r * (1.0 / 24 + r * (1.0 / 120 + r * (1.0 / 720
        + r * (1.0 / 5040 + r * (1.0 / 40320)))))));
    const double *power = pyodl_exp_table[steps & 31];
    const double scale = double_from_bits((uint64_t)((steps >> 5) + 1023) << 52);
    return (float)(sum_to_odd(power[0], power[1] + power[0] * tail + power[0] * r) * scale);
}

/* c near 1/m, and -log(c) high, a multiple of 2^-43, and low, for the 32 parts of
 * 0.703125 <= m < 1.40625. */
static const double pyodl_log_table[32][3] = {
    {0x1.68p+0, -0x1.5d1bdbf580800p-2, -0x1.ca508d8e0f720p-46},
    {0x1.6p+0, -0x1.4618bc21c6000p-2, 0x1.3d82f484c84ccp-46},
    {0x1.59p+0, -0x1.31871c9544000p-2, -0x1.84fab94cecfd9p-46},
    {0x1.52p+0, -0x1.1c898c1699800p-2, -0x1.fafbc68e75404p-46},
    {0x1.4bp+0, -0x1.071b85fcd5800p-2, -0x1.0d1d1707f97bep-46},
    {0x1.44p+0, -0x1.e27076e2af000p-3, -0x1.72f4f543fff10p-46},
    {0x1.3ep+0, -0x1.bc286742d9000p-3, 0x1.94eb0318bb78fp-46},
    {0x1.38p+0, -0x1.9525a9cf45000p-3, -0x1.ad1d904c1d4e3p-45},
    {0x1.32p+0, -0x1.6d60fe719d000p-3, -0x1.0e46aa3b2e266p-46},
    {0x1.2dp+0, -0x1.4ba36f39a5000p-3, -0x1.79568981bcc36p-45},
    {0x1.27p+0, -0x1.2266f190a6000p-3, 0x1.4d20ab840e7f6p-45},
    {0x1.22p+0, -0x1.fec9131dbe000p-4, -0x1.575545ca333f2p-45},
    {0x1.1dp+0, -0x1.b78c82bb0e000p-4, -0x1.b4210878cf032p-45},
    {0x1.18p+0, -0x1.6f0d28ae56000p-4, -0x1.69737c93373dap-45},
    {0x1.13p+0, -0x1.253f62f0a2000p-4, 0x1.7d20e092cb1fep-45},
    {0x1.0fp+0, -0x1.d276b8adb0000p-5, -0x1.6a423c78a64b0p-46},
    {0x1.0ap+0, -0x1.39e87b9fec000p-5, 0x1.502b7f526feaap-48},
    {0x1.06p+0, -0x1.7b91b07d58000p-6, -0x1.88d5493faa639p-45},
    {0x1p+0, 0x0p+0, 0x0p+0},
    {0x1p+0, 0x0p+0, 0x0p+0},
    {0x1.eap-1, 0x1.67c94f2d4c000p-5, -0x1.29efbec19afa2p-47},
    {0x1.dap-1, 0x1.3bdf5a7d1e000p-4, 0x1.cc85ea5db4ed7p-45},
    {0x1.cep-1, 0x1.a4e7640b1c000p-4, -0x1.e42b6b94407c8p-47},
    {0x1.cp-1, 0x1.1178e8227e000p-3, 0x1.1ef78ce2d07f2p-45},
    {0x1.b4p-1, 0x1.4913d8333b000p-3, 0x1.5837954fdb678p-45},
    {0x1.aap-1, 0x1.7898d85445000p-3, -0x1.c661070914305p-46},
    {0x1.9ep-1, 0x1.b31d8575bd000p-3, -0x1.c358d4eace1aap-47},
    {0x1.94p-1, 0x1.e530effe71000p-3, 0x1.212276041f430p-51},
    {0x1.8ap-1, 0x1.0c42d67616000p-2, 0x1.7188b163ceae9p-45},
    {0x1.82p-1, 0x1.214456d0eb800p-2, 0x1.a87deba46baeap-47},
    {0x1.78p-1, 0x1.3c25277333000p-2, 0x1.83b54b606bd5cp-46},
    {0x1.7p-1, 0x1.522ae0738a000p-2, 0x1.ebe708164c759p-45},
};

PYODL_INLINE float log_float(float argument) {
    uint32_t bits = float_bits(argument);
    int32_t k = 0;
    if (bits - 0x00800000u >= 0x7F000000u) { /* zero, subnormal, negative, infinite or NaN */
        if (bits << 1 == 0)
            return float_from_bits(0xFF800000u);
        if (bits == 0x7F800000u)
            return argument;
        if (bits >= 0x7F800000u)
            return float_from_bits(PYODL_NAN_FLOAT32);
        bits = float_bits(argument * 0x1p23f);
        k = -23;
    }
    /* argument = 2^k m, r = c m - 1 exactly: c has 9 bits. Near 1, c is 1 and k is 0. */
    const int32_t offset = (int32_t)(bits - 0x3F340000u);
    const double *entry = pyodl_log_table[(offset >> 18) & 31];
    const double m = (double)float_from_bits(bits - ((uint32_t)offset & 0xFF800000u));
    const double r = m * entry[0] - 1.0;
    k += offset >> 23;

    /* k ln2 - log(c) + r is exact in the high parts; then log(1 + r) - r, |r| < 2^-5. */
    const double high = k * 0x1.62e42fefa38p-1 + entry[1] + r;
    const double low = k * 0x1.ef35793c7673p-45 + entry[2];
    const double tail = r * r *
        (-1.0 / 2 + r * (1.0 / 3 + r * (-1.0 / 4 + r * (1.0 / 5 + r * (-1.0 / 6 + r * (1.0 / 7
        + r * (-1.0 / 8 + r * (1.0 / 9 + r * (-1.0 / 10 + r * (1.0 / 11 + r * (-1.0 / 12
        + r * (1.0 / 13))))))))))));
    return (float)sum_to_odd(high, low + tail);
}

/* The firmware's fast exponential (Schraudolph, 1999): a line in x whose integer part is taken as
 * the bits of a binary32. A NaN converts to 0xFFFFFFFF, which is one. */
PYODL_INLINE float fast_exp_float(float x, int fused) {
    float t = fused ? fma_float(12102203.17f, x, 1064986823.01f)
                    : 12102203.17f * x + 1064986823.01f;
    if (t != t)
        return float_from_bits(0xFFFFFFFFu);
    if (t < 8388608.0f)
        t = 0.0f;
    if (t > 2139095040.0f)
        t = 2139095040.0f;
    return float_from_bits((uint32_t)t);
}

#endif
