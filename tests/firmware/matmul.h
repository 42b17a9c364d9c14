/* C (N x M) = A (N x K) B, B being K x M, or M x K if it is stored transposed.
 *
 * Each kernel computes the part of one core. Sequential sums take one accumulator; the SIMD kernels
 * with B transposed take pairs of k in two lanes.
 */
#ifndef MATMUL_H
#define MATMUL_H

#include "half.h"

enum kernel {
    NAIVE,
    NAIVE_M,
    SIMD_2X4,
    SIMD_4X8,
    M_SIMD_2X4,
    M_SIMD_4X8,
    UNROLL_2X1,
    UNROLL_4X1,
    UNROLL_8X1,
};

typedef struct {
    const half *a, *b;
    half *c;
    int n, k, m, b_transposed;
} product;

static half dot(const product *p, int row, int column)
{
    const half *a = p->a + row * p->k;
    const half *b = p->b + (p->b_transposed ? column * p->k : column);
    int stride = p->b_transposed ? 1 : p->m, k;
    accumulator sum = 0;
    for (k = 0; k < p->k; k++)
        sum = step(a[k], b[k * stride], sum);
    return (half)sum;
}

/* Columns `columns` of a row, one after the other. */
static void sequential(const product *p, int row, block columns)
{
    int j;
    for (j = columns.begin; j < columns.end; j++)
        p->c[row * p->m + j] = dot(p, row, j);
}

static void naive(const product *p, block rows, block columns)
{
    int i, j;
    for (i = rows.begin; i < rows.end; i++) {
        if (p->k > 1) {
            sequential(p, i, columns);
            continue;
        }
        for (j = columns.begin; j < columns.end; j++) /* b is a row or a column of one element */
            p->c[i * p->m + j] = (half)((accumulator)p->a[i] * (accumulator)p->b[j]);
    }
}

/* Several rows at a time; every output is summed as ever. */
static void unrolled(const product *p, block rows, int by)
{
    int i, j, r, k;
    for (i = rows.begin; i < rows.end; i += by) {
        int count = rows.end - i < by ? rows.end - i : by;
        for (j = 0; j < p->m; j++) {
            accumulator sum[8] = {0};
            for (k = 0; k < p->k; k++) {
                half b = p->b_transposed ? p->b[j * p->k + k] : p->b[k * p->m + j];
                for (r = 0; r < count; r++)
                    sum[r] = step(p->a[(i + r) * p->k + k], b, sum[r]);
            }
            for (r = 0; r < count; r++)
                p->c[(i + r) * p->m + j] = (half)sum[r];
        }
    }
}

/* Two columns of B as lanes: B is not transposed, so each lane is a sequential sum. */
static void columns_as_lanes(const product *p, int row, block columns)
{
    const half *a = p->a + row * p->k;
    int j, k;
    for (j = columns.begin; j + 1 < columns.end; j += 2) {
        accumulator2 sum = {0, 0};
        for (k = 0; k < p->k; k++)
            sum = step2((half2){a[k], a[k]}, load2(p->b + k * p->m + j), sum);
        p->c[row * p->m + j] = (half)sum[0];
        p->c[row * p->m + j + 1] = (half)sum[1];
    }
    sequential(p, row, (block){j, columns.end});
}

/* Even k in lane 0, odd k in lane 1; a last odd k by itself, or into lane 0. */
static half lanes(const half *a, const half *b, int k, int into_lane_0)
{
    accumulator2 sum = {0, 0};
    accumulator result = 0;
    int i;
    for (i = 0; i + 1 < k; i += 2)
        sum = step2(load2(a + i), load2(b + i), sum);
#ifdef DEFECT_LEFTOVER
    into_lane_0 = 1;
#endif
    if (into_lane_0) {
        if (i < k)
            sum[0] = step(a[i], b[i], sum[0]);
        return (half)(sum[0] + sum[1]);
    }
    if (i < k)
        result += step(a[i], b[i], 0); /* 0 + -0 is +0: a product that underflows leaves no sign */
    result += sum[0] + sum[1];
    return (half)result;
}

/* `columns` in steps of `by`; those left over are summed sequentially by whoever has `leftovers`. */
static void k_as_lanes(const product *p, int row, block columns, int into_lane_0)
{
    int j;
    for (j = columns.begin; j < columns.end; j++)
        p->c[row * p->m + j] = lanes(p->a + row * p->k, p->b + j * p->k, p->k, into_lane_0);
}

static void simd_rows(const product *p, block rows, int by, int into_lane_0)
{
    block whole = {0, p->m / by * by}, left = {p->m / by * by, p->m};
    int i;
    for (i = rows.begin; i < rows.end; i++) {
        if (!p->b_transposed) {
            columns_as_lanes(p, i, (block){0, p->m});
            continue;
        }
        k_as_lanes(p, i, whole, into_lane_0);
        sequential(p, i, left);
    }
}

static void simd_columns(const product *p, int by, int into_lane_0, int core, int cores)
{
    block groups = block_of(p->m / by, core, cores);
    block own = {groups.begin * by, groups.end * by}, left = {p->m / by * by, p->m};
    int i, pairs = by == 4 ? p->n / 2 * 2 : p->n; /* the 4x8 kernel takes two rows at a time */
    for (i = 0; i < p->n; i++) {
        if (!p->b_transposed)
            columns_as_lanes(p, i, own);
        else if (i < pairs)
            k_as_lanes(p, i, own, into_lane_0);
        else
            sequential(p, i, own);
        if (core == cores - 1)
            sequential(p, i, left);
    }
}

/* The kernel that runs when `kernel` is asked for: small products fall back. */
static enum kernel resolve(enum kernel kernel, int n, int k, int m, int cores)
{
    for (;;) {
        if (kernel == SIMD_2X4 && (m < 2 || k < 2))
            return NAIVE;
        else if (kernel == SIMD_4X8 && (m < 4 || k < 2 || n / 2 * 2 / cores < 2))
            kernel = SIMD_2X4;
        else if (kernel == M_SIMD_2X4 && (m < 2 || k < 2))
            return NAIVE;
        else if (kernel == M_SIMD_4X8 && (m / 4 * 4 / cores < 4 || k < 2 || n < 2))
            kernel = M_SIMD_2X4;
        else if (kernel == UNROLL_2X1 && n / cores < 2)
            return NAIVE;
        else if (kernel == UNROLL_4X1 && n / 4 * 4 / cores < 4)
            kernel = UNROLL_2X1;
        else if (kernel == UNROLL_8X1 && n / 8 * 8 / cores < 8)
            kernel = UNROLL_4X1;
        else
            return kernel;
    }
}

static void matmul(const product *p, enum kernel kernel, int core, int cores)
{
    block rows = block_of(p->n, core, cores), columns = block_of(p->m, core, cores);
    switch (resolve(kernel, p->n, p->k, p->m, cores)) {
    case NAIVE:
        naive(p, rows, (block){0, p->m});
        break;
    case NAIVE_M:
        for (int i = 0; i < p->n; i++)
            sequential(p, i, columns);
        break;
    case SIMD_2X4:
        simd_rows(p, rows, 2, 0);
        break;
    case SIMD_4X8:
        simd_rows(p, rows, 4, 1);
        break;
    case M_SIMD_2X4:
        simd_columns(p, 2, 0, core, cores);
        break;
    case M_SIMD_4X8:
        simd_columns(p, 4, 1, core, cores);
        break;
    case UNROLL_2X1:
        unrolled(p, rows, 2);
        break;
    case UNROLL_4X1:
        unrolled(p, rows, 4);
        break;
    case UNROLL_8X1:
        unrolled(p, rows, 8);
        break;
    }
}

/* c = A v: two lanes for each row; a core that has a single row sums it sequentially. */
static void matvec(const product *p, int core, int cores)
{
    block rows = block_of(p->n, core, cores);
    int i;
    if (rows.end - rows.begin < 2)
        naive(p, rows, (block){0, 1});
    else
        for (i = rows.begin; i < rows.end; i++)
            p->c[i] = lanes(p->a + i * p->k, p->b, p->k, 1);
}

#endif
