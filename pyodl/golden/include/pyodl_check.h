/* Compare a tensor of the device with the bits that pyodl computed.
 *
 * C99 (and C++), freestanding: nothing of a C library but <stdint.h> and <stddef.h>. A header of
 * vectors includes this file and gives each tensor a descriptor, so that a test reads
 *
 *     #include "conv2d_forward.h"
 *     static void print(const char *line) { ... send the text somewhere ... }
 *     ...
 *     failures += pyodl_check(&conv2d_forward_y_tensor, y, print);
 *
 * Define before the first include, if the defaults do not suit:
 *
 *     PYODL_SECTION   where vectors are placed: __attribute__((section(".l2_data")))
 *     PYODL_ALIGN     how they are aligned: 4 bytes, as 2-lane loads want it
 *     PYODL_ANY_NAN   any NaN may stand for any other
 */
#ifndef PYODL_CHECK_H
#define PYODL_CHECK_H

#include <stddef.h>
#include <stdint.h>

#ifndef PYODL_SECTION
#define PYODL_SECTION
#endif

#ifndef PYODL_ALIGN
#ifdef __GNUC__
#define PYODL_ALIGN __attribute__((aligned(4)))
#else
#define PYODL_ALIGN
#endif
#endif

#ifdef __GNUC__ /* a tensor of _Float16 is read as bits */
#define PYODL_BITS __attribute__((may_alias))
#else
#define PYODL_BITS
#endif
typedef uint16_t PYODL_BITS pyodl_bits16;
typedef uint32_t PYODL_BITS pyodl_bits32;

#define PYODL_MOST_AXES 5
#define PYODL_LINE 240 /* longest line that is printed, its end included */

/* The storage formats, by the bits of their fractions. */
enum pyodl_format { PYODL_BFLOAT16 = 7, PYODL_FLOAT16 = 10, PYODL_FLOAT32 = 23 };

typedef struct {
    const char *name;
    const void *bits; /* uint32_t for PYODL_FLOAT32, uint16_t otherwise */
    enum pyodl_format format;
    size_t count; /* elements */
    unsigned ndim;
    size_t shape[PYODL_MOST_AXES];
    const char *axes[PYODL_MOST_AXES];
} pyodl_tensor;

typedef struct {
    size_t differing; /* elements whose bits differ */
    size_t index;     /* of the first of them, in C order */
    uint32_t expected, got;
    int one_is_nan; /* then there is no distance */
    uint32_t ulp;   /* steps from one number of the format to the next */
} pyodl_difference;

/* Takes a line of text without a line feed. */
typedef void (*pyodl_print)(const char *line);

static inline uint32_t pyodl_load(const void *bits, size_t i, enum pyodl_format format)
{
    if (format == PYODL_FLOAT32)
        return ((const pyodl_bits32 *)bits)[i];
    return ((const pyodl_bits16 *)bits)[i];
}

static inline uint32_t pyodl_sign(enum pyodl_format format)
{
    return format == PYODL_FLOAT32 ? 0x80000000u : 0x8000u;
}

static inline int pyodl_is_nan(uint32_t x, enum pyodl_format format)
{
    uint32_t sign = pyodl_sign(format), infinity = sign - ((uint32_t)1 << (unsigned)format);
    return (x & (sign - 1)) > infinity;
}

/* Steps between two numbers; +0 and -0 are none apart, infinity follows the largest number. */
static inline uint32_t pyodl_ulp(uint32_t x, uint32_t y, enum pyodl_format format)
{
    uint32_t sign = pyodl_sign(format), a = x & (sign - 1), b = y & (sign - 1);
    if ((x ^ y) & sign)
        return a + b;
    return a > b ? a - b : b - a;
}

/* Compares and prints nothing; `differing` is 0 if all bits are the same. */
static inline pyodl_difference pyodl_compare(const void *expected, const void *got, size_t count,
                                             enum pyodl_format format)
{
    pyodl_difference found = {0, 0, 0, 0, 0, 0};
    size_t i;
    for (i = 0; i < count; i++) {
        uint32_t x = pyodl_load(expected, i, format), y = pyodl_load(got, i, format);
        if (x == y)
            continue;
#ifdef PYODL_ANY_NAN
        if (pyodl_is_nan(x, format) && pyodl_is_nan(y, format))
            continue;
#endif
        if (found.differing++ == 0) {
            found.index = i;
            found.expected = x;
            found.got = y;
            found.one_is_nan = pyodl_is_nan(x, format) || pyodl_is_nan(y, format);
            found.ulp = found.one_is_nan ? 0 : pyodl_ulp(x, y, format);
        }
    }
    return found;
}

/* A line that is being written; what does not fit is left out. */
typedef struct {
    char text[PYODL_LINE];
    size_t length;
} pyodl_line;

static inline void pyodl_put(pyodl_line *line, const char *text)
{
    while (*text != '\0' && line->length < PYODL_LINE - 1)
        line->text[line->length++] = *text++;
    line->text[line->length] = '\0';
}

static inline void pyodl_put_number(pyodl_line *line, size_t number)
{
    char digits[24];
    size_t at = sizeof digits - 1;
    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + (int)(number % 10));
        number /= 10;
    } while (number != 0);
    pyodl_put(line, digits + at);
}

static inline void pyodl_put_bits(pyodl_line *line, uint32_t bits, enum pyodl_format format)
{
    char digits[11] = "0x";
    int i, width = format == PYODL_FLOAT32 ? 8 : 4;
    for (i = 0; i < width; i++)
        digits[2 + i] = "0123456789abcdef"[(bits >> (4 * (width - 1 - i))) & 15];
    digits[2 + width] = '\0';
    pyodl_put(line, digits);
}

/* "[co 3, ci 0, kh 1, kw 2]" */
static inline void pyodl_put_place(pyodl_line *line, const pyodl_tensor *tensor, size_t index)
{
    size_t step = tensor->count;
    unsigned i;
    for (i = 0; i < tensor->ndim; i++) {
        step /= tensor->shape[i];
        pyodl_put(line, i == 0 ? "[" : ", ");
        pyodl_put(line, tensor->axes[i]);
        pyodl_put(line, " ");
        pyodl_put_number(line, index / step);
        index %= step;
    }
    pyodl_put(line, "]");
}

/* Compares `got` with the tensor's bits, prints one line if they differ (`print` may be NULL), and
 * returns how many elements differ. */
static inline size_t pyodl_check(const pyodl_tensor *tensor, const void *got, pyodl_print print)
{
    pyodl_difference found = pyodl_compare(tensor->bits, got, tensor->count, tensor->format);
    pyodl_line line;
    if (found.differing == 0 || print == NULL)
        return found.differing;
    line.length = 0;
    pyodl_put(&line, "pyodl: ");
    pyodl_put(&line, tensor->name);
    pyodl_put(&line, ": ");
    pyodl_put_number(&line, found.differing);
    pyodl_put(&line, " of ");
    pyodl_put_number(&line, tensor->count);
    pyodl_put(&line, " differ, first element ");
    pyodl_put_number(&line, found.index);
    pyodl_put(&line, " ");
    pyodl_put_place(&line, tensor, found.index);
    pyodl_put(&line, ": expected ");
    pyodl_put_bits(&line, found.expected, tensor->format);
    pyodl_put(&line, ", got ");
    pyodl_put_bits(&line, found.got, tensor->format);
    if (found.one_is_nan) {
        pyodl_put(&line, ", NaN");
    } else {
        pyodl_put(&line, ", ");
        pyodl_put_number(&line, found.ulp);
        pyodl_put(&line, " ULP");
    }
    print(line.text);
    return found.differing;
}

#endif
