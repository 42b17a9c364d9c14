"""IEEE operations of the storage formats on flat arrays: `pyodl.formats`.

sizes: elements, format (``enum pyodl_format``). One loop per operation, on one thread. The
transcendental functions take and give binary32; they are here to be tested by themselves.
"""

from libc.math cimport sqrtf
from libc.stdint cimport int64_t

from pyodl._kernels._capsule cimport lone_capsule
from pyodl._kernels._transcendental cimport exp_float, fast_exp_float, log_float
from pyodl._kernels._types cimport (
    PYODL_FLOAT32, Arguments, Team, fma_float, fma_to_odd, load_value, narrow_to_odd, store_value,
)


cdef void format_round(const Arguments *a, Team team) noexcept nogil:
    cdef const double *x = <const double *>a.arrays[0]
    cdef int target = <int>a.sizes[1]
    cdef int64_t i
    cdef float value
    for i in range(a.sizes[0]):
        # Through binary32 there would be two roundings to 16 bits, unless the first is to odd.
        value = <float>x[i] if target == PYODL_FLOAT32 else narrow_to_odd(x[i])
        store_value(target, a.arrays[1], i, value)


# One rounding in binary32 and one to the format equal one: see add() in arithmetic.h.
cdef void format_add(const Arguments *a, Team team) noexcept nogil:
    cdef int f = <int>a.sizes[1]
    cdef int64_t i
    for i in range(a.sizes[0]):
        store_value(f, a.arrays[2], i,
                    load_value(f, a.arrays[0], i) + load_value(f, a.arrays[1], i))


cdef void format_sub(const Arguments *a, Team team) noexcept nogil:
    cdef int f = <int>a.sizes[1]
    cdef int64_t i
    for i in range(a.sizes[0]):
        store_value(f, a.arrays[2], i,
                    load_value(f, a.arrays[0], i) - load_value(f, a.arrays[1], i))


cdef void format_mul(const Arguments *a, Team team) noexcept nogil:
    cdef int f = <int>a.sizes[1]
    cdef int64_t i
    for i in range(a.sizes[0]):
        store_value(f, a.arrays[2], i,
                    load_value(f, a.arrays[0], i) * load_value(f, a.arrays[1], i))


cdef void format_div(const Arguments *a, Team team) noexcept nogil:
    cdef int f = <int>a.sizes[1]
    cdef int64_t i
    for i in range(a.sizes[0]):
        store_value(f, a.arrays[2], i,
                    load_value(f, a.arrays[0], i) / load_value(f, a.arrays[1], i))


cdef void format_sqrt(const Arguments *a, Team team) noexcept nogil:
    cdef int f = <int>a.sizes[1]
    cdef int64_t i
    for i in range(a.sizes[0]):
        store_value(f, a.arrays[1], i, sqrtf(load_value(f, a.arrays[0], i)))


cdef void format_fma(const Arguments *a, Team team) noexcept nogil:
    cdef int f = <int>a.sizes[1]
    cdef int64_t i
    cdef float x, y, z
    for i in range(a.sizes[0]):
        x = load_value(f, a.arrays[0], i)
        y = load_value(f, a.arrays[1], i)
        z = load_value(f, a.arrays[2], i)
        store_value(f, a.arrays[3], i,
                    fma_float(x, y, z) if f == PYODL_FLOAT32 else fma_to_odd(x, y, z))


cdef void apply_exp(const Arguments *a, Team team) noexcept nogil:
    cdef int64_t i
    for i in range(a.sizes[0]):
        (<float *>a.arrays[1])[i] = exp_float((<const float *>a.arrays[0])[i])


cdef void apply_log(const Arguments *a, Team team) noexcept nogil:
    cdef int64_t i
    for i in range(a.sizes[0]):
        (<float *>a.arrays[1])[i] = log_float((<const float *>a.arrays[0])[i])


cdef void apply_fast_exp(const Arguments *a, Team team) noexcept nogil:
    """sizes[1]: whether the multiply-add is fused."""
    cdef int64_t i
    for i in range(a.sizes[0]):
        (<float *>a.arrays[1])[i] = fast_exp_float((<const float *>a.arrays[0])[i],
                                                   <int>a.sizes[1])


KERNELS = {
    "format_round": lone_capsule(format_round),
    "format_add": lone_capsule(format_add),
    "format_sub": lone_capsule(format_sub),
    "format_mul": lone_capsule(format_mul),
    "format_div": lone_capsule(format_div),
    "format_sqrt": lone_capsule(format_sqrt),
    "format_fma": lone_capsule(format_fma),
    "exp_float": lone_capsule(apply_exp),
    "log_float": lone_capsule(apply_log),
    "fast_exp_float": lone_capsule(apply_fast_exp),
}
