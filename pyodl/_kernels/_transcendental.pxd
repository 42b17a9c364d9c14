"""Exponentials and the logarithm of binary32, declared."""

cdef extern from "include/transcendental.h" nogil:
    float exp_float(float) noexcept
    float log_float(float) noexcept
    float fast_exp_float(float, int) noexcept
