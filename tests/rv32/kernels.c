// Inner loops of the cluster's matmul kernels, to be looked at in disassembly: see counts.py.
//
// Each function holds the accumulators of one register tile while k runs. Names end in what the
// model calls the form: fp32, fp16 (fused), muladd and widen (FP16 stored, FP32 accumulated).
// clang 19 knows the half-precision scalars of Zhinx and the loads and shuffles of CORE-V, but
// neither FP16 vectors nor hardware loops: a vector multiply-accumulate is one made-up instruction.

typedef _Float16 half;
typedef unsigned pair;  // two halves in a register

#define UNROLLED _Pragma("clang loop unroll(full)")
#define ROLLED _Pragma("clang loop unroll(disable)")

// The encodings of no extension that this compiler knows; only their number counts.
#define VECTOR(name, funct)                                                             \
    static inline pair name(pair to, pair a, pair b) {                                  \
        __asm__(".insn r 0x33, 1, " #funct ", %0, %1, %2" : "+r"(to) : "r"(a), "r"(b)); \
        return to;                                                                      \
    }
VECTOR(vector_fma, 0x50)
VECTOR(vector_mul, 0x51)
VECTOR(vector_add, 0x52)

static inline pair low_twice(pair x) {
    pair y;
    __asm__("cv.pack %0, %1, %1" : "=r"(y) : "r"(x));
    return y;
}

static inline pair high_twice(pair x) {
    pair y;
    __asm__("cv.pack.h %0, %1, %1" : "=r"(y) : "r"(x));
    return y;
}

static inline pair muladd(pair to, pair a, pair b) {
    return vector_add(to, to, vector_mul(to, a, b));
}

// In the register's lower half, as conversions want it; the upper half is not read.
static inline float widened(pair x) {
    float y;
    __asm__("fcvt.s.h %0, %1" : "=r"(y) : "r"(x));
    return y;
}

// One element per register: loads, then each product to its accumulator.
#define SCALAR(name, type, sum, rows, columns, step)                                 \
    void name(const type *a, const type *b, type *c, int n, int k, int m) {          \
        const type *pa[rows], *pb[columns];                                          \
        sum acc[rows][columns];                                                      \
        UNROLLED for (int i = 0; i < rows; i++) pa[i] = a + i * k;                   \
        UNROLLED for (int j = 0; j < columns; j++) pb[j] = b + j * m;                \
        UNROLLED for (int i = 0; i < rows; i++)                                      \
            UNROLLED for (int j = 0; j < columns; j++) acc[i][j] = 0;                \
        ROLLED for (int x = 0; x < k; x++) {                                         \
            sum va[rows], vb[columns];                                               \
            UNROLLED for (int j = 0; j < columns; j++) vb[j] = *pb[j]++;             \
            UNROLLED for (int i = 0; i < rows; i++) va[i] = *pa[i]++;                \
            UNROLLED for (int i = 0; i < rows; i++)                                  \
                UNROLLED for (int j = 0; j < columns; j++) step;                     \
        }                                                                            \
        UNROLLED for (int i = 0; i < rows; i++)                                      \
            UNROLLED for (int j = 0; j < columns; j++) c[i * n + j] = (type)acc[i][j]; \
    }

#define FUSED acc[i][j] += va[i] * vb[j]
// Through a volatile-free barrier, so that the compiler does not fuse what must round twice.
#define ROUNDED                                     \
    {                                               \
        half product = va[i] * vb[j];               \
        __asm__("" : "+r"(product));                \
        acc[i][j] += product;                       \
    }

SCALAR(tile_1x1_fp32, float, float, 1, 1, FUSED)
SCALAR(tile_1x1_fp16, half, half, 1, 1, FUSED)
SCALAR(tile_1x1_muladd, half, half, 1, 1, ROUNDED)
SCALAR(tile_1x1_widen, half, float, 1, 1, FUSED)
SCALAR(tile_1x2_fp32, float, float, 1, 2, FUSED)
SCALAR(tile_2x1_fp16, half, half, 2, 1, FUSED)
SCALAR(tile_2x1_widen, half, float, 2, 1, FUSED)
SCALAR(tile_4x1_fp16, half, half, 4, 1, FUSED)
SCALAR(tile_8x1_fp16, half, half, 8, 1, FUSED)
SCALAR(tile_8x1_fp32, float, float, 8, 1, FUSED)
SCALAR(tile_2x4_fp32, float, float, 2, 4, FUSED)

// Two elements per register, both operands along k.
#define DOTS(name, rows, columns, step)                                            \
    void name(const pair *a, const pair *b, pair *c, int n, int k, int m) {        \
        const pair *pa[rows], *pb[columns];                                        \
        pair acc[rows][columns];                                                   \
        UNROLLED for (int i = 0; i < rows; i++) pa[i] = a + i * k;                 \
        UNROLLED for (int j = 0; j < columns; j++) pb[j] = b + j * m;              \
        UNROLLED for (int i = 0; i < rows; i++)                                    \
            UNROLLED for (int j = 0; j < columns; j++) acc[i][j] = 0;              \
        ROLLED for (int x = 0; x < k; x++) {                                       \
            pair va[rows], vb[columns];                                            \
            UNROLLED for (int i = 0; i < rows; i++) va[i] = *pa[i]++;              \
            UNROLLED for (int j = 0; j < columns; j++) vb[j] = *pb[j]++;           \
            UNROLLED for (int i = 0; i < rows; i++)                                \
                UNROLLED for (int j = 0; j < columns; j++)                         \
                    acc[i][j] = step(acc[i][j], va[i], vb[j]);                     \
        }                                                                          \
        UNROLLED for (int i = 0; i < rows; i++)                                    \
            UNROLLED for (int j = 0; j < columns; j++) c[i * n + j] = acc[i][j];   \
    }

DOTS(dots_1x2_fp16, 1, 2, vector_fma)
DOTS(dots_1x2_muladd, 1, 2, muladd)
DOTS(dots_2x4_fp16, 2, 4, vector_fma)
DOTS(dots_2x1_fp16, 2, 1, vector_fma)
DOTS(dots_4x1_fp16, 4, 1, vector_fma)

// The same with both lanes widened and added in FP32; accumulators are rows x columns x 2.
#define WIDENED_DOTS(name, rows, columns)                                          \
    void name(const pair *a, const pair *b, float *c, int n, int k, int m) {       \
        const pair *pa[rows], *pb[columns];                                        \
        float acc[rows][columns][2];                                               \
        UNROLLED for (int i = 0; i < rows; i++) pa[i] = a + i * k;                 \
        UNROLLED for (int j = 0; j < columns; j++) pb[j] = b + j * m;              \
        UNROLLED for (int i = 0; i < rows; i++)                                    \
            UNROLLED for (int j = 0; j < columns; j++)                             \
                acc[i][j][0] = acc[i][j][1] = 0;                                   \
        ROLLED for (int x = 0; x < k; x++) {                                       \
            float va[rows][2], vb[columns][2];                                     \
            UNROLLED for (int i = 0; i < rows; i++) {                              \
                pair v = *pa[i]++;                                                 \
                va[i][0] = widened(v), va[i][1] = widened(v >> 16);                \
            }                                                                      \
            UNROLLED for (int j = 0; j < columns; j++) {                           \
                pair v = *pb[j]++;                                                 \
                vb[j][0] = widened(v), vb[j][1] = widened(v >> 16);                \
            }                                                                      \
            UNROLLED for (int i = 0; i < rows; i++)                                \
                UNROLLED for (int j = 0; j < columns; j++)                         \
                    UNROLLED for (int l = 0; l < 2; l++)                           \
                        acc[i][j][l] += va[i][l] * vb[j][l];                       \
        }                                                                          \
        UNROLLED for (int i = 0; i < rows; i++)                                    \
            UNROLLED for (int j = 0; j < columns; j++)                             \
                c[i * n + j] = acc[i][j][0] + acc[i][j][1];                        \
    }

WIDENED_DOTS(dots_1x2_widen, 1, 2)

// Two elements per register, B along the columns: two rows of it in an iteration, and each
// element of A in both lanes.
#define OUTER(name, rows, columns, step)                                           \
    void name(const pair *a, const pair *b, pair *c, int n, int k, int m) {        \
        const pair *pa[rows], *pb = b;                                             \
        pair acc[rows][columns / 2];                                               \
        UNROLLED for (int i = 0; i < rows; i++) pa[i] = a + i * k;                 \
        UNROLLED for (int i = 0; i < rows; i++)                                    \
            UNROLLED for (int j = 0; j < columns / 2; j++) acc[i][j] = 0;          \
        ROLLED for (int x = 0; x < k; x++) {                                       \
            pair va[rows], vb[2][columns / 2];                                     \
            UNROLLED for (int i = 0; i < rows; i++) va[i] = *pa[i]++;              \
            UNROLLED for (int l = 0; l < 2; l++) {                                 \
                UNROLLED for (int j = 0; j < columns / 2; j++) vb[l][j] = pb[j];   \
                pb += m;                                                           \
            }                                                                      \
            UNROLLED for (int i = 0; i < rows; i++) {                              \
                pair low = low_twice(va[i]), high = high_twice(va[i]);             \
                UNROLLED for (int j = 0; j < columns / 2; j++)                     \
                    acc[i][j] = step(step(acc[i][j], low, vb[0][j]), high, vb[1][j]); \
            }                                                                      \
        }                                                                          \
        UNROLLED for (int i = 0; i < rows; i++)                                    \
            UNROLLED for (int j = 0; j < columns / 2; j++) c[i * n + j] = acc[i][j]; \
    }

OUTER(outer_1x2_fp16, 1, 2, vector_fma)
OUTER(outer_2x4_fp16, 2, 4, vector_fma)
OUTER(outer_2x4_muladd, 2, 4, muladd)
