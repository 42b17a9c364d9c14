"""Convolutions by pixels that are not zero: the bits of the contraction, or that runs after all."""

from collections import Counter

import numpy as np
import pytest
from agreement import agree
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import ARITHMETICS
from strategies import KINDS, filled, seeds

from pyodl._kernels import BAND_SUMS
from pyodl.arithmetic import ARITHMETICS as OWN
from pyodl.primitives import _pixels
from pyodl.primitives._steps import step_of

pytestmark = pytest.mark.usefixtures("every_operation_is_shared")

NONFINITE, UNBOUNDED = 1, 4  # the contraction runs; sums may overflow
HALVES = ["fp16-fma", "fp16-muladd"]
LISTED = step_of(OWN["fp16-fma"]).lists_terms
LEAST = 2.0**-24
num_threads = st.integers(1, 3)
channels = st.sampled_from([16, 1, 8, 13, 32, 48, 64, 80])  # that do and do not fill registers
few = st.integers(1, 3)
padding = st.tuples(*[st.integers(0, 2)] * 4)
strides = st.sampled_from([1, 1, 2, 2, 3, (1, 2), (2, 1), (3, 1)])
densities = st.sampled_from([0.0, 0.1, 0.5, 1.0])
# The image but for its zeros, and the weights.
together = st.one_of(
    st.sampled_from(
        [("normal", "normal"), ("tiny", "vanishing"), ("vanishing", "normal"), ("huge", "units")]
    ),
    st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
)
both = pytest.mark.parametrize("arithmetic", HALVES)


@pytest.fixture
def surveys(outputs_of):
    """The flags of what has been bound by pixels."""
    return outputs_of(_pixels, "survey", 0)


def bits_of(flags):
    return [int(doubt) | UNBOUNDED * int(unbounded) for doubt, unbounded in flags]


def image(shape, fmt, kind, seed, density):
    x = filled(shape, fmt, kind, seed)
    x[np.random.default_rng(seed + 1).random(shape) >= density] = 0
    return x


def is_finite(x):
    return np.isfinite(x.astype(np.float32)).all()


def check(name, arithmetic, x, w, args, flags, ran, **call):
    """Compare; the flag says that the contraction ran exactly where it had to."""
    flags.clear()
    out = agree(name, *args, arithmetic=arithmetic, **call)
    if not flags:
        ran["contracted"] += 1
        return
    (flag,) = bits_of(flags)
    assert LISTED
    if not (is_finite(x) and is_finite(w)):
        assert flag == NONFINITE | UNBOUNDED
        ran["refused"] += 1
    elif flag & NONFINITE:
        assert np.isnan(out.astype(np.float32)).any()
        ran["nan"] += 1
    else:
        terms = w.size // out.shape[0]
        largest = float(abs(x.astype(np.float32)).max() * abs(w.astype(np.float32)).max())
        assert flag == (0 if terms * largest <= 16384 and terms <= 2048 else UNBOUNDED)
        negative_zero = (out.view(np.uint16) == 0x8000).any()
        ran["negative zero" if negative_zero else "unbounded" if flag else "pixels"] += 1


def check_counts(arithmetic, ran):
    if LISTED:
        assert ran["pixels"] >= 40, ran
        assert ran["unbounded"] >= 5, ran
        assert ran["refused"] >= 6, ran
        assert ran["nan"] >= 1 or arithmetic == "fp16-fma", ran  # fused, infinite sums stay so
        fused = arithmetic == "fp16-fma"
        assert ran["negative zero"] >= 3 if fused else ran["negative zero"] == 0, ran
    else:
        assert set(ran) == {"contracted"}, ran


@both
@pytest.mark.parametrize("taps", [3, 1])
@pytest.mark.parametrize("mirrored", [False, True])
def test_convolutions_and_input_gradients(arithmetic, taps, mirrored, surveys):
    fmt, ran = ARITHMETICS[arithmetic].storage, Counter()

    @settings(max_examples=400)
    @given(
        few, channels, st.integers(1, 13), st.integers(1, 13), strides, padding, together, seeds,
        densities, num_threads,
    )  # fmt: skip
    def run(c_in, c_out, height, width, stride, pad, kinds, seed, density, threads):
        if mirrored:
            c_in, c_out = c_out, c_in
        steps = (stride, stride) if isinstance(stride, int) else stride
        pad = pad if taps == 3 else (0,) * 4
        out = [
            (n + before + after - taps) // step + 1
            for n, before, after, step in zip(
                (height, width), pad[::2], pad[1::2], steps, strict=True
            )
        ]
        assume(min(out) > 0)
        w = filled((c_out, c_in, taps, taps), fmt, kinds[1], seed)
        shape = (c_out, *out) if mirrored else (c_in, height, width)
        x = image(shape, fmt, kinds[0], seed + 2, density)
        name = "conv2d_input_grad" if mirrored else "conv2d_forward"
        args = (w, x, (height, width)) if mirrored else (x, w)
        check(name, arithmetic, x, w, args, surveys, ran, stride=stride, padding=pad,
              layout="CHW", algorithm="im2row", num_threads=threads)  # fmt: skip

    run()
    check_counts(arithmetic, ran)


@both
@pytest.mark.parametrize("mirrored", [False, True])
def test_pointwise(arithmetic, mirrored, surveys):
    fmt, ran = ARITHMETICS[arithmetic].storage, Counter()

    @settings(max_examples=400)
    @given(
        few, channels, st.integers(1, 17), st.integers(1, 17), together, seeds, densities,
        num_threads,
    )  # fmt: skip
    def run(c_in, c_out, height, width, kinds, seed, density, threads):
        if mirrored:
            c_in, c_out = c_out, c_in
        w = filled((c_out, c_in), fmt, kinds[1], seed)
        x = image((c_out if mirrored else c_in, height, width), fmt, kinds[0], seed + 2, density)
        name, args = ("pointwise_input_grad", (w, x)) if mirrored else ("pointwise_forward", (x, w))
        check(name, arithmetic, x, w, args, surveys, ran, layout="CHW", num_threads=threads)

    run()
    check_counts(arithmetic, ran)


WIDE = BAND_SUMS // 4 - 4  # rows of sums that four of are kept


@both
@pytest.mark.parametrize(
    "size", [(33, 32), (70, 90), (3, 400), (9, WIDE), (9, WIDE + 1), (9, WIDE // 2), (1100, 1)]
)
@pytest.mark.parametrize("c_out, stride", [(16, 1), (64, 1), (32, 2), (16, (2, 1)), (32, (1, 2))])
def test_images_of_many_bands_and_lists(arithmetic, size, c_out, stride, surveys):
    """More pixels than are listed at a time; more sums than are kept; rows that are too long."""
    fmt, ran = ARITHMETICS[arithmetic].storage, Counter()
    steps = (stride, stride) if isinstance(stride, int) else stride
    x = image((2, *size), fmt, "normal", 1, 0.5)
    w = filled((c_out, 2, 3, 3), fmt, "normal", 2)
    call = {"stride": stride, "padding": 1, "layout": "CHW", "algorithm": "im2row"}
    check("conv2d_forward", arithmetic, x, w, (x, w), surveys, ran, **call)
    w = filled((2, c_out, 3, 3), fmt, "normal", 2)
    out = tuple((n - 1) * step + 1 for n, step in zip(size, steps, strict=True))
    args = (w, x, out)
    check("conv2d_input_grad", arithmetic, x, w, args, surveys, ran, **call)
    assert ran["pixels"] + ran["unbounded"] + ran["contracted"] == 2
    if LISTED and max(size[1], out[1]) <= (WIDE if stride == 1 else BAND_SUMS // 8 - 4):
        assert not ran["contracted"], ran


@both
@pytest.mark.parametrize("mirrored, stride", [(False, 1), (True, 1), (True, 2), (True, 3)])
@pytest.mark.parametrize(
    "height, width", [(8, 3), (9, 40), (14, 7), (15, 8), (16, 9), (17, 3), (21, 58), (21, 90)]
)
@pytest.mark.parametrize("kept", [(0, 1), (-1, None), (0, 4), (4, None), (3, 6), (None, None)])
def test_halves_of_a_band_have_pixels_of_their_own(
    arithmetic, mirrored, stride, height, width, kept, surveys
):
    """Where they take turns, one has more than the other, or some in the middle of both."""
    fmt = ARITHMETICS[arithmetic].storage
    for c in (8, 16):  # one register of AVX2, of AVX-512
        for pad in ((1, 1, 1, 1), (2, 0, 1, 1)):
            out = [(n + sum(pad[i : i + 2]) - 3) // stride + 1
                   for n, i in ((height, 0), (width, 2))]  # fmt: skip
            shape = (2, *out) if mirrored else (2, height, width)
            x = np.zeros(shape, fmt.dtype)
            x[:, slice(*kept)] = image(shape, fmt, "normal", 1, 0.6)[:, slice(*kept)]
            w = filled((2, c, 3, 3) if mirrored else (c, 2, 3, 3), fmt, "normal", c)
            args = (w, x, (height, width)) if mirrored else (x, w)
            name = "conv2d_input_grad" if mirrored else "conv2d_forward"
            check(name, arithmetic, x, w, args, surveys, Counter(), padding=pad, stride=stride,
                  layout="CHW", algorithm="im2row", num_threads=1)  # fmt: skip


@both
@pytest.mark.parametrize("width", [BAND_SUMS // 8 - 4, BAND_SUMS // 8 - 3])
@pytest.mark.parametrize("taps", [1, 3])
@pytest.mark.parametrize("stride", [(2, 1), (3, 1), (2, 2)])
def test_rows_of_sums_beside_a_band(arithmetic, width, taps, stride, surveys):
    """Those of pixels that are dealt out, where there is room for no more."""
    fmt, ran = ARITHMETICS[arithmetic].storage, Counter()
    x = image((2, 9, width * stride[1]), fmt, "normal", 1, 0.5)
    w = filled((64, 2, taps, taps), fmt, "normal", 2)
    call = {"stride": stride, "padding": taps // 2, "layout": "CHW", "algorithm": "im2row"}
    check("conv2d_forward", arithmetic, x, w, (x, w), surveys, ran, **call)
    assert ran["contracted"] == (not LISTED or width > BAND_SUMS // 8 - 4)


@both
@pytest.mark.parametrize("depth, bounded", [(2048, True), (2049, False)])
def test_long_sums_are_not_bounded(arithmetic, depth, bounded, surveys):
    """Roundings may add a part in 2^11 each."""
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, (depth, 1, 3)).astype(np.float16)
    w = rng.uniform(-1, 1, (16, depth)).astype(np.float16)
    surveys.clear()
    agree("pointwise_forward", x, w, layout="CHW", arithmetic=arithmetic)
    assert bits_of(surveys) == [0 if bounded else UNBOUNDED] * LISTED


@both
@pytest.mark.parametrize("value, bounded", [(128.0, True), (128.125, False)])
def test_16384_is_the_bound(arithmetic, value, bounded, surveys):
    x, w = np.full((1, 1, 5), value, np.float16), np.full((1, 16), 128, np.float16)
    surveys.clear()
    agree("pointwise_input_grad", w, x, layout="CHW", arithmetic=arithmetic, kernel="naive_m")
    assert bits_of(surveys) == [0 if bounded else UNBOUNDED] * LISTED


@both
def test_a_sum_that_overflows_does_not_come_back(arithmetic, surveys):
    x = np.full((9, 1, 5), 128, np.float16)
    w = np.full((16, 9), 192, np.float16)
    w[:, 5:] = -128
    out = agree("pointwise_forward", x, w, layout="CHW", arithmetic=arithmetic)
    assert np.isinf(out).all()
    assert bits_of(surveys) == [UNBOUNDED] * LISTED


# ---- a sum that ends as -0 ----------------------------------------------------------------------


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("place", [(0, 0), (2, 1), (4, 5)])
@pytest.mark.parametrize("many", [16, 13, 29])
def test_zeros_that_follow_decide_about_negative_zero(mirrored, stride, place, many, surveys):
    """One pixel's products vanish; after them, zeros are multiplied by weights of either sign."""
    ran = Counter()
    rng = np.random.default_rng(5)
    for signs in range(12):
        x = np.zeros((2, 5, 6), np.float16)
        x[(signs % 2, *place)] = LEAST
        x[rng.random(x.shape) < 0.2] *= -1  # zeros of either sign
        shape = (2, many, 3, 3) if mirrored else (many, 2, 3, 3)
        w = np.where(rng.random(shape) < (0.9, 0.5, 0.02)[signs % 3], -LEAST, LEAST)
        w = w.astype(np.float16)
        w[rng.random(shape) < 0.1] *= 0
        size = tuple((n - 1) * stride + 1 for n in x.shape[1:])
        name = "conv2d_input_grad" if mirrored else "conv2d_forward"
        args = (w, x, size) if mirrored else (x, w)
        check(name, "fp16-fma", x, w, args, surveys, ran, stride=stride, padding=1, layout="CHW",
              algorithm="im2row")  # fmt: skip
    assert not LISTED or ran["negative zero"] >= 1, ran


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("many", [16, 13, 29, 64])
def test_zero_weights_of_either_sign_meet_pixels(mirrored, many, surveys):
    """Weights are widened while sums round down, and the last register of them may not be full."""
    rng, ran = np.random.default_rng(6), Counter()
    for _ in range(40):
        x = rng.choice([0, -0.0, LEAST, -3 * LEAST, 1], (3, 2, 5)).astype(np.float16)
        w = rng.choice([0, -0.0, LEAST, -LEAST, 0.25], (many, 3)).astype(np.float16)
        name = "pointwise_input_grad" if mirrored else "pointwise_forward"
        args = (np.ascontiguousarray(w.T), x) if mirrored else (x, w)
        check(name, "fp16-fma", x, w, args, surveys, ran, layout="CHW")
    assert not LISTED or ran["negative zero"] >= 10, ran


def test_a_negative_zero_stays_where_nothing_follows(surveys):
    """The last term of the last channel, and every weight negative after another."""
    x = np.zeros((2, 1, 4), np.float16)
    x[1, 0, 1], x[0, 0, 2] = LEAST, LEAST
    w = np.full((16, 2), -LEAST, np.float16)
    w[3, 1] = LEAST
    out = agree("pointwise_forward", x, w, layout="CHW", arithmetic="fp16-fma")
    bits = out.view(np.uint16)[:, 0]
    assert (np.delete(bits, 3, 0) == [0, 0x8000, 0x8000, 0]).all()
    assert (bits[3] == 0).all()
    assert bits_of(surveys) == [0] * LISTED
