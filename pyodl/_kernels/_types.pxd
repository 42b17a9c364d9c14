"""The C side of the kernels, declared once: scalar types, formats, arithmetics, call arguments."""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t


cdef extern from "include/arguments.h" nogil:
    int PYODL_MAX_ARRAYS
    int PYODL_MAX_SIZES
    int PYODL_MAX_SCALARS
    ctypedef struct Arguments "pyodl_arguments":
        void *arrays[12]
        int64_t sizes[24]
        float scalars[4]
        int arithmetic
        int cores
    ctypedef struct Team "pyodl_team":
        int thread
        int threads
    ctypedef struct Reach "pyodl_reach":
        int64_t start
        int64_t stop
    ctypedef Reach (*ReachOf "pyodl_reach_of")(const Arguments *, Team, int) noexcept nogil
    # Kernels hold no Python object and raise nothing: all input is checked before they are bound.
    ctypedef void (*Kernel "pyodl_kernel")(const Arguments *, Team) noexcept nogil


cdef extern from "include/formats.h" nogil:
    int PYODL_FLOAT16
    int PYODL_BFLOAT16
    int PYODL_FLOAT32
    float float_from_half(uint16_t) noexcept
    uint16_t half_from_float(float) noexcept
    float float_from_bfloat(uint16_t) noexcept
    uint16_t bfloat_from_float(float) noexcept
    float float_from_bits(uint32_t) noexcept
    uint32_t float_bits(float) noexcept
    double double_from_bits(uint64_t) noexcept
    uint64_t double_bits(double) noexcept
    float canonical_float(float) noexcept
    float narrow_to_odd(double) noexcept
    float fma_to_odd(float, float, float) noexcept
    float fma_float(float, float, float) noexcept
    float load_value(int, const void *, int64_t) noexcept
    bint is_negative_zero(int, const void *, int64_t) noexcept
    void store_value(int, void *, int64_t, float) noexcept
    float round_value(int, float) noexcept


cdef extern from "include/arithmetic.h" nogil:
    int PYODL_FP16_FP32ACC
    int PYODL_FP16_FMA
    int PYODL_FP16_MULADD
    int PYODL_BF16_FP32ACC
    int PYODL_BF16_FMA
    int PYODL_FP32
    int storage_format(int) noexcept
    int accumulator_format(int) noexcept
    float load(int, const void *, int64_t) noexcept
    void store(int, void *, int64_t, float) noexcept
    float rounded(int, float) noexcept
    float stored(int, float) noexcept
    float add(int, float, float) noexcept
    float sub(int, float, float) noexcept
    float mul(int, float, float) noexcept
    float quotient(int, float, float) noexcept
    float root(int, float) noexcept
    float fma_step(int, float, float, float) noexcept
    float float_step(int, float, float, float) noexcept
