"""Weight gradients by the pixels that are not zero: the bits of the contraction, or that runs."""

from collections import Counter

import numpy as np
import pytest
from agreement import agree
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import ARITHMETICS
from strategies import KINDS, filled, kernels, seeds

from pyodl.arithmetic import ARITHMETICS as OWN
from pyodl.primitives import _pixels
from pyodl.primitives._steps import step_of

pytestmark = pytest.mark.usefixtures("every_operation_is_shared")

NONFINITE, NEGATIVE_ZERO = 1, 2  # bits of the flag that has the contraction follow
# Whose sums may be rounded to -0; others that are -0 are mended, and raise no flag.
ROUNDED = "bf16-fp32acc"
SIXTEEN_BITS = [name for name, ar in ARITHMETICS.items() if ar.storage.bits == np.uint16]
BY_PIXELS = [name for name in SIXTEEN_BITS if step_of(OWN[name]).by_pixels]

channels_out = st.sampled_from([1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65])
padding = st.tuples(*[st.integers(0, 2)] * 4)
num_threads = st.integers(1, 3)
densities = st.sampled_from([0.0, 0.1, 0.4, 0.7])
# What x is but for its zeros; what it has that pixels must not; what dy is.
together = st.one_of(
    st.sampled_from([("huge", "huge"), ("tiny", "vanishing"), ("normal", "normal")]),
    st.tuples(
        st.sampled_from(["units", "normal", "tiny", "huge"]),
        st.sampled_from([*KINDS, "vanishing"]),
    ),
)
spoilers = st.sampled_from([None] * 12 + ["-0", "negative", "infinite", "dense"])


@pytest.fixture
def surveys(outputs_of):
    """The flags of the weight gradients by pixels that have been bound."""
    return outputs_of(_pixels, "survey", 0)


def pixels(shape, fmt, kind, seed, density, spoiler):
    """What a ReLU leaves; or, with a spoiler, nearly."""
    rng = np.random.default_rng(seed + 1)
    x = np.abs(filled(shape, fmt, kind, seed).astype(np.float32)).astype(fmt.dtype)
    if spoiler != "dense":
        x[rng.random(shape) >= density] = 0
    if spoiler in ("-0", "negative", "infinite"):
        value = {"-0": -0.0, "negative": -1.0, "infinite": np.inf}[spoiler]
        x[tuple(rng.integers(0, shape))] = value
    return x


def bits_of(x):
    return np.ascontiguousarray(x).view(np.uint16)


def has_nonfinite(x):
    return not np.isfinite(x.astype(np.float32)).all()


def check(arithmetic, x, dy, flags, ran, **call):
    """Compare the gradient; the flag says that pixels stood exactly where they may."""
    flags.clear()
    call = {"stride": 1, "layout": "CHW", "algorithm": "im2row", "arithmetic": arithmetic} | call
    dw = agree("conv2d_weight_grad", x, dy, (3, 3), **call)
    strided = call["stride"] == 2
    few = 2 * len(dy) <= step_of(OWN[arithmetic]).lanes
    never = strided and (few or not step_of(OWN[arithmetic]).lists_terms)
    if arithmetic not in BY_PIXELS or never or (dy.shape[1:] == (1, 1) and not flags):
        assert not flags
        return
    (flag,) = (int(flag[0]) for flag in flags)
    x_bits = bits_of(x)
    zeros = np.count_nonzero(x_bits & 0x7FFF == 0)
    may_be_negative_zero = arithmetic not in ("fp16-fp32acc", "fp16-muladd")
    signed = (x_bits >> 15).any() and may_be_negative_zero
    covers = few and not strided  # several taps in a register
    dense = 4 * zeros < x.size and not covers
    if signed or dense or has_nonfinite(x) or has_nonfinite(dy):
        assert flag == NONFINITE
        ran["refused"] += 1
    elif np.isnan(dw.astype(np.float32)).any():
        assert flag & NONFINITE
        ran["nan"] += 1
    elif flag & NONFINITE:
        assert covers  # a NaN in lanes beside the outputs
        ran["nan beside"] += 1
    else:
        negative_zero = may_be_negative_zero and (bits_of(dw) == 0x8000).any()
        assert flag == 0 or arithmetic == ROUNDED
        assert flag or not negative_zero or arithmetic != ROUNDED
        ran["negative zero" if flag or negative_zero else "pixels"] += 1


@pytest.mark.parametrize("arithmetic", SIXTEEN_BITS)
def test_small_images(arithmetic, surveys):
    fmt, ran = ARITHMETICS[arithmetic].storage, Counter()

    @settings(max_examples=250)
    @given(
        st.integers(1, 3), channels_out, st.integers(1, 11), st.integers(1, 11), padding,
        together, spoilers, seeds, densities, kernels, num_threads,
    )  # fmt: skip
    def run(c_in, c_out, height, width, pad, kinds, spoiler, seed, density, kernel, threads):
        out = height + pad[0] + pad[1] - 2, width + pad[2] + pad[3] - 2
        assume(min(out) > 0)
        x = pixels((c_in, height, width), fmt, kinds[0], seed, density, spoiler)
        dy = filled((c_out, *out), fmt, kinds[1], seed + 2)
        check(arithmetic, x, dy, surveys, ran, padding=pad, kernel=kernel, cores=8,
              num_threads=threads)  # fmt: skip

    run()
    if arithmetic in BY_PIXELS:
        assert ran["pixels"] >= 40, ran
        assert ran["refused"] >= 10, ran
        # Fused, an infinite sum stays one; and only products that are not exact vanish.
        assert (ran["nan"] >= 3) == (arithmetic == "fp16-muladd"), ran
        exact = arithmetic in ("fp16-fp32acc", "fp16-muladd")
        assert ran["negative zero"] == 0 if exact else ran["negative zero"] >= 3, ran


@pytest.mark.parametrize("arithmetic", SIXTEEN_BITS)
def test_a_stride_of_two(arithmetic, surveys):
    fmt, ran = ARITHMETICS[arithmetic].storage, Counter()

    @settings(max_examples=250)
    @given(
        st.integers(1, 3), st.sampled_from([16, 9, 8, 24, 32, 48, 41]), st.integers(1, 13),
        st.integers(1, 40), padding, together, spoilers, seeds, densities, num_threads,
    )  # fmt: skip
    def run(c_in, c_out, height, width, pad, kinds, spoiler, seed, density, threads):
        beyond = height + pad[0] + pad[1] - 3, width + pad[2] + pad[3] - 3
        assume(min(beyond) >= 0)
        x = pixels((c_in, height, width), fmt, kinds[0], seed, density, spoiler)
        dy = filled((c_out, *(n // 2 + 1 for n in beyond)), fmt, kinds[1], seed + 2)
        check(arithmetic, x, dy, surveys, ran, stride=2, padding=pad, num_threads=threads)

    run()
    if step_of(OWN[arithmetic]).lists_terms:
        assert ran["pixels"] >= 30, ran
        assert ran["refused"] >= 10, ran
        assert (ran["negative zero"] >= 2) == (arithmetic == "fp16-fma"), ran


@pytest.mark.parametrize("arithmetic", ["fp16-fma", "fp16-muladd"])
@pytest.mark.parametrize("size", [(65, 64), (3, 512), (3, 513), (1, 700), (300, 1)])
def test_strided_images_of_many_rows_and_columns(arithmetic, size, surveys):
    fmt = ARITHMETICS[arithmetic].storage
    x = pixels((2, *size), fmt, "normal", 1, 0.5, None)
    dy = filled((33, *((n + 1) // 2 for n in size)), fmt, "normal", 2)
    surveys.clear()
    agree("conv2d_weight_grad", x, dy, (3, 3), stride=2, padding=1, layout="CHW",
          algorithm="im2row", arithmetic=arithmetic)  # fmt: skip
    listed = step_of(OWN[arithmetic]).lists_terms and size[1] <= 512
    assert [int(flag[0]) for flag in surveys] == [0] * listed


@pytest.mark.parametrize("arithmetic", SIXTEEN_BITS)
def test_images_of_more_pixels_than_are_listed_at_a_time(arithmetic, surveys):
    fmt, ran = ARITHMETICS[arithmetic].storage, Counter()

    @settings(max_examples=20)
    @given(
        st.integers(1, 2), st.sampled_from([1, 8, 9, 33, 40]),
        st.sampled_from([(32, 32), (33, 32), (2, 1025), (45, 47), (1023, 1)]),
        st.sampled_from([(1, 1, 1, 1), (2, 0, 1, 2)]), together, seeds,
        st.sampled_from([0.01, 0.4, 0.75]), num_threads,
    )  # fmt: skip
    def run(c_in, c_out, size, pad, kinds, seed, density, threads):
        x = pixels((c_in, *size), fmt, kinds[0], seed, density, None)
        out = size[0] + pad[0] + pad[1] - 2, size[1] + pad[2] + pad[3] - 2
        dy = filled((c_out, *out), fmt, kinds[1], seed + 2)
        check(arithmetic, x, dy, surveys, ran, padding=pad, num_threads=threads)

    run()
    assert ran["pixels"] >= 4 or arithmetic not in BY_PIXELS, ran


@pytest.mark.parametrize("arithmetic", SIXTEEN_BITS)
@pytest.mark.parametrize("size, pad", [((12, 9), 1), ((12, 9), 0), ((1, 7), 1), ((33, 35), 1)])
@pytest.mark.parametrize(
    "density", [(0.1, 0.9), (0.9, 0.1), (0, 0.5), (0.5, 0), (0.3, 0.6, 0.2), (0.5, 0.5, 0, 1, 0.1)]
)
def test_channels_have_pixels_of_their_own(arithmetic, size, pad, density, surveys):
    """Where two of them take turns, one has more than the other, and the last has nobody."""
    fmt = ARITHMETICS[arithmetic].storage
    out = tuple(n + 2 * pad - 2 for n in size)
    x = np.stack([pixels(size, fmt, "normal", i, each, None) for i, each in enumerate(density)])
    for c_out in (8, 16):  # one register of AVX2, of AVX-512
        dy = filled((c_out, *out), fmt, "normal", c_out)
        check(arithmetic, x, dy, surveys, Counter(), padding=pad)


@pytest.mark.parametrize("arithmetic", SIXTEEN_BITS)
@pytest.mark.parametrize("size", [1023, 1024, 1025, 2047, 2048, 2049])
def test_the_last_pixel_counts(arithmetic, size, surveys):
    """Its only term that is not zero is the last one of the list, or the first of the next."""
    fmt = ARITHMETICS[arithmetic].storage
    x = np.zeros((1, 1, size), fmt.dtype)
    x[0, 0, [-1, 0, size // 2]] = [1, 2, 0.5]
    dy = filled((3, 1, size), fmt, "normal", size)
    check(arithmetic, x, dy, surveys, Counter(), padding=1)


@pytest.mark.parametrize("arithmetic", SIXTEEN_BITS)
@pytest.mark.parametrize("size, pad", [((3, 3), 0), ((1, 1), 1), ((2, 3), (1, 0, 0, 0))])
def test_one_output_pixel_keeps_the_sign_of_a_zero_product(arithmetic, size, pad, surveys):
    """K is 1: `naive` has no accumulator that would make +0 of -0."""
    fmt = ARITHMETICS[arithmetic].storage
    x = np.zeros((2, *size), fmt.dtype)
    x[0, 0, 0] = 1
    dy = filled((4, 1, 1), fmt, "units", 1)
    dy[2] = -1
    for kernel in ("naive", "naive_m"):
        check(arithmetic, x, dy, surveys, Counter(), padding=pad, kernel=kernel, cores=1)


@pytest.mark.parametrize("arithmetic", SIXTEEN_BITS)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("channel, place", [(0, 0), (40, -1)])
def test_zero_times_infinity_stays_a_nan(arithmetic, value, channel, place, surveys):
    fmt, ran = ARITHMETICS[arithmetic].storage, Counter()
    x = np.zeros((2, 5, 6), fmt.dtype)
    dy = filled((41, 5, 6), fmt, "units", 1)
    dy[channel].reshape(-1)[place] = value
    check(arithmetic, x, dy, surveys, ran, padding=1)
    assert ran["refused"] == (arithmetic in BY_PIXELS)


@pytest.mark.parametrize("arithmetic", ["fp16-fma", "bf16-fma", "bf16-fp32acc"])
@pytest.mark.parametrize("channel", [0, 7, 8, 31, 32, 40])
def test_a_zero_pixel_makes_positive_zero_of_a_sum_that_underflowed(arithmetic, channel, surveys):
    """As many channels as fill registers and begin another: one tap of one of them is -0."""
    fmt, ran = ARITHMETICS[arithmetic].storage, Counter()
    x = np.zeros((1, 4, 4), fmt.dtype)
    tiny = 2.0**-75 if arithmetic == "bf16-fp32acc" else 2.0 ** (fmt.emin - fmt.precision + 1)
    x[0, 1, 1] = tiny
    for tap in np.ndindex(3, 3):
        dy = np.ones((41, 4, 4), fmt.dtype)
        dy[(channel, *tap)] = -tiny
        check(arithmetic, x, dy, surveys, ran, padding=1)
    stood = "negative zero" if arithmetic == ROUNDED else "pixels"
    assert ran[stood] == 9 * (arithmetic in BY_PIXELS)


@pytest.mark.parametrize("channel", [0, 7, 8, 15, 16, 31, 32, 40])
def test_one_sum_that_is_no_number_is_found(channel, surveys):
    """Two products that overflow, of either sign, meet in one tap of one channel."""
    ran = Counter()
    x = np.zeros((1, 3, 6), np.float16)
    x[0, 1, [1, 4]] = 3
    for row, column in np.ndindex(3, 3):
        dy = np.ones((41, 3, 6), np.float16)
        dy[channel, row, [column, column + 3]] = 60000, -60000
        check("fp16-muladd", x, dy, surveys, ran, padding=1)
    assert ran["nan"] == 9


@pytest.mark.parametrize("arithmetic", ["fp16-fma", "bf16-fma", "bf16-fp32acc"])
def test_a_tap_over_the_edge_leaves_negative_zero(arithmetic, surveys):
    """The pixel in the corner comes last, and most of its taps lie over the edge."""
    fmt, ran = ARITHMETICS[arithmetic].storage, Counter()
    x = np.zeros((1, 2, 4), fmt.dtype)
    tiny = 2.0**-75 if arithmetic == "bf16-fp32acc" else 2.0 ** (fmt.emin - fmt.precision + 1)
    x[0, :, 1], x[0, 1, 3] = tiny, 1
    dy = np.full((3, 2, 4), -tiny, fmt.dtype)
    check(arithmetic, x, dy, surveys, ran, padding=1)
    assert ran["negative zero"] == (arithmetic in BY_PIXELS)


@pytest.mark.parametrize("arithmetic", SIXTEEN_BITS)
def test_a_list_that_is_full(arithmetic, surveys):
    """The zeros come after the pixels that fill it; it is made anew for every register."""
    fmt, ran = ARITHMETICS[arithmetic].storage, Counter()
    x = filled((1, 14, 100), fmt, "units", 1)
    x[x < 0] = 1
    x.reshape(-1)[1024:-20] = 0
    dy = filled((70, 14, 100), fmt, "units", 2)
    check(arithmetic, x, dy, surveys, ran, padding=1)
    assert ran["pixels"] == (arithmetic in BY_PIXELS)


def test_pixels_are_summed_where_steps_are_costly():
    by_pixels = set(BY_PIXELS)
    assert {"fp16-fma", "fp16-muladd", "bf16-fma"} <= by_pixels
    assert by_pixels in (set(SIXTEEN_BITS), {"fp16-fma", "fp16-muladd", "bf16-fma"})
