/* Storage values to binary32, exactly, by rows: what operands of a contraction are made of. */
#ifndef PYODL_WIDEN_H
#define PYODL_WIDEN_H

#include "lanes.h"

#define PYODL_CHUNK 256 /* floats of a row that are widened before they are spread */

/* Neighbours to neighbours. */
PYODL_INLINE void widen_block(int format, const void *x, int64_t first, float *out, int64_t count) {
    int64_t i = 0;
    for (; i + PYODL_LANES <= count; i += PYODL_LANES)
        lanes_store(out + i, lanes_load_value(format, x, first + i));
    for (; i < count; i++)
        out[i] = load_value(format, x, first + i);
}

static inline void widen_values(int format, const void *x, int64_t first, float *out,
                                int64_t count) {
    switch (format) {
    case PYODL_FLOAT16: widen_block(PYODL_FLOAT16, x, first, out, count); break;
    case PYODL_BFLOAT16: widen_block(PYODL_BFLOAT16, x, first, out, count); break;
    default: memcpy(out, (const float *)x + first, (size_t)count * sizeof *out);
    }
}

/* One row of any strides. Close strides are widened whole and picked from. */
static inline void widen_row(int format, const void *x, int64_t first, int64_t stride, float *out,
                             int64_t out_stride, int64_t count) {
    float chunk[PYODL_CHUNK];
    if (stride == 1 && out_stride == 1) {
        widen_values(format, x, first, out, count);
    } else if (stride >= 1 && stride <= 8) {
        const int64_t most = (PYODL_CHUNK - 1) / stride + 1;
        for (int64_t done = 0; done < count; done += most) {
            const int64_t now = count - done < most ? count - done : most;
            widen_values(format, x, first + done * stride, chunk, (now - 1) * stride + 1);
            if (stride == 2 && out_stride == 1) /* a constant stride becomes shuffles */
                for (int64_t i = 0; i < now; i++)
                    out[done + i] = chunk[2 * i];
            else
                for (int64_t i = 0; i < now; i++)
                    out[(done + i) * out_stride] = chunk[i * stride];
        }
    } else {
        for (int64_t i = 0; i < count; i++)
            out[i * out_stride] = load_value(format, x, first + i * stride);
    }
}

/* Matrix rows [start, stop) that are neighbours in the source, with columns that are neighbours in
 * the target: widened along the one, copied along the other, in blocks that stay in the L1 cache.
 * In the target, every `inner` rows lie row_stride apart, and such groups group_stride. */
static inline void widen_transposed(int format, const void *x, int64_t first, int64_t column_stride,
                                    float *out, int64_t inner, int64_t row_stride,
                                    int64_t group_stride, int64_t start, int64_t stop,
                                    int64_t columns) {
    enum { ACROSS = 16, ALONG = 64 };
    float block[ACROSS][ALONG];
    for (int64_t r = start; r < stop; r += ALONG) {
        const int64_t along = stop - r < ALONG ? stop - r : ALONG;
        for (int64_t c = 0; c < columns; c += ACROSS) {
            const int64_t across = columns - c < ACROSS ? columns - c : ACROSS;
            for (int64_t j = 0; j < across; j++)
                widen_values(format, x, first + (c + j) * column_stride + r, block[j], along);
            int64_t in_group = r % inner;
            float *row = out + r / inner * group_stride + in_group * row_stride + c;
            for (int64_t i = 0; i < along; i++) {
                for (int64_t j = 0; j < across; j++)
                    row[j] = block[j][i];
                row += row_stride;
                if (++in_group == inner) {
                    in_group = 0;
                    row += group_stride - inner * row_stride;
                }
            }
        }
    }
}

/* Whether there is an infinity or a NaN: an exponent of all ones. */
static inline int32_t has_nonfinite(int format, const void *x, int64_t count) {
    const uint32_t exponent = format == PYODL_FLOAT16 ? 0x7C00u : 0x7F80u;
    uint32_t found = 0;
    if (format == PYODL_FLOAT32)
        for (int64_t i = 0; i < count; i++)
            found |= (((const uint32_t *)x)[i] & 0x7F800000u) == 0x7F800000u;
    else
        for (int64_t i = 0; i < count; i++)
            found |= (((const uint16_t *)x)[i] & exponent) == exponent;
    return (int32_t)found;
}

#endif
