"""Hypothesis strategies: arithmetics, core counts, shapes, and arrays of every sort of bits.

An array is drawn as a kind and a seed, not element by element: that is fast, and it shrinks to the
simplest kind, seed 0 and the smallest shape that still fail.
"""

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from reference import ARITHMETICS, KERNELS, array_of

KINDS = ["units", "normal", "zeros", "tiny", "huge", "special", "anybits", "mixed"]

arithmetics = st.sampled_from(list(ARITHMETICS))
cores = st.integers(1, 16)
threads = st.sampled_from([1, 2, 7])
kernels = st.sampled_from(KERNELS)
layouts = st.sampled_from(["CHW", "HWC"])
kinds = st.sampled_from(KINDS)
seeds = st.integers(0, 2**16)
sizes = st.one_of(st.integers(1, 6), st.integers(1, 20), st.integers(1, 70))
small = st.integers(1, 5)


def _any_bits(rng, shape, fmt):
    top = 1 << (8 * fmt.bits.itemsize)
    return rng.integers(0, top, shape, dtype=np.uint64).astype(fmt.bits).view(fmt.dtype)


def _zeros(rng, shape, fmt):
    x = array_of(rng.normal(size=shape), fmt)
    zero = array_of(rng.choice([0.0, -0.0], shape), fmt)
    return np.where(rng.random(shape) < 0.7, zero, x)


def _tiny(rng, shape, fmt):
    """Subnormals, and values whose products are subnormal or vanish."""
    half_way = 2.0 ** ((fmt.emin - fmt.precision) / 2)
    around = rng.normal(size=shape) * half_way * 2.0 ** rng.integers(-4, 5, shape)
    subnormal = rng.normal(size=shape) * 2.0**fmt.emin * 2.0 ** -rng.integers(0, 12, shape)
    return array_of(np.where(rng.random(shape) < 0.7, around, subnormal), fmt)


def _huge(rng, shape, fmt):
    """Values whose products or sums overflow now and then."""
    scale = 2.0 ** (rng.integers(fmt.emax // 2 - 3, fmt.emax + 1, shape))
    return array_of(np.clip(rng.normal(size=shape) * scale, -fmt.largest, fmt.largest), fmt)


def _special(rng, shape, fmt):
    """Normals with a few infinities and NaNs; the NaNs have payloads and either sign."""
    x = array_of(rng.normal(size=shape), fmt)
    exponent = fmt.bits.type(array_of(np.inf, fmt).view(fmt.bits))
    sign = fmt.bits.type(1 << (8 * fmt.bits.itemsize - 1))
    drawn = _any_bits(rng, shape, fmt).view(fmt.bits)
    nan = drawn | exponent | fmt.bits.type(1)
    inf = (drawn & sign) | exponent
    chance = rng.random(shape)
    bits = np.where(chance < 0.03, nan, np.where(chance < 0.08, inf, x.view(fmt.bits)))
    return bits.astype(fmt.bits).view(fmt.dtype)


MAKERS = {
    "units": lambda rng, shape, fmt: array_of(rng.choice([1.0, -1.0, 2.0], shape), fmt),
    "normal": lambda rng, shape, fmt: array_of(rng.normal(size=shape), fmt),
    "zeros": _zeros,
    "tiny": _tiny,
    "huge": _huge,
    "special": _special,
    "anybits": _any_bits,
}


def filled(shape, fmt, kind, seed):
    """An array of one kind; "mixed" takes each element from a kind of its own.

    "vanishing", which is in no mixture, has the least numbers: their products with 1/3 vanish.
    """
    rng = np.random.default_rng(seed)
    if kind == "vanishing":
        least = 2.0 ** (fmt.emin - fmt.precision + 1)
        return array_of(rng.choice([least, -least, -2 * least, 3 * least], shape), fmt)
    if kind != "mixed":
        return np.ascontiguousarray(MAKERS[kind](rng, shape, fmt))
    drawn = np.stack([maker(rng, shape, fmt) for maker in MAKERS.values()])
    which = rng.integers(0, len(drawn), shape)
    bits = np.take_along_axis(drawn.view(fmt.bits), which[None], 0)[0]
    return np.ascontiguousarray(bits).view(fmt.dtype)


def grid(fmt):
    """4,096 of 16 bits: every exponent and sign, fractions that differ from value to value."""
    bits = np.arange(4096, dtype=np.uint32) * 16
    return (bits + (bits >> 4) * 7 % 16).astype(np.uint16).view(fmt.dtype)


@st.composite
def environments(draw, with_cores=True):
    """(keyword arguments of a primitive, a function that draws an array of the right dtype)."""
    arithmetic = draw(arithmetics)
    keywords = {"arithmetic": arithmetic}
    if with_cores:
        keywords["cores"] = draw(cores)
    fmt = ARITHMETICS[arithmetic].storage

    def array(*shape):
        return filled(shape, fmt, draw(kinds), draw(seeds))

    return keywords, array


@st.composite
def windows(draw, max_size=9, max_channels=5):
    """Geometry of a convolution: valid, asymmetric, padding beyond the kernel included."""
    g = {
        "kernel": (draw(st.integers(1, 4)), draw(st.integers(1, 4))),
        "stride": draw(st.sampled_from([1, 1, 2, 3])),
        "padding": draw(st.one_of(st.just((0,) * 4), st.tuples(*[st.integers(0, 3)] * 4))),
        "size": (draw(st.integers(1, max_size)), draw(st.integers(1, max_size))),
        "cin": draw(st.integers(1, max_channels)),
        "cout": draw(st.integers(1, max_channels)),
    }
    (h, w), (kh, kw), (up, down, left, right) = g["size"], g["kernel"], g["padding"]
    rows, columns = h + up + down - kh, w + left + right - kw
    assume(rows >= 0 and columns >= 0)
    g["out"] = (rows // g["stride"] + 1, columns // g["stride"] + 1)
    return g


def in_layout(layout, channels, size):
    return (channels, *size) if layout == "CHW" else (*size, channels)


def weights_in_layout(layout, cout, cin, kernel):
    return (cout, cin, *kernel) if layout == "CHW" else (cout, *kernel, cin)


@st.composite
def pools(draw):
    """(channels, size, kernel, stride, output size) of a pooling layer."""
    size = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    kernel = (draw(st.integers(1, size[0])), draw(st.integers(1, size[1])))
    stride = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    out = tuple((s - k) // t + 1 for s, k, t in zip(size, kernel, stride, strict=True))
    return draw(st.integers(1, 6)), size, kernel, stride, out
