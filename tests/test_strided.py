"""Gradients of strided convolutions, and images of widths that do or do not fill registers."""

from collections import Counter

import numpy as np
import pytest
from agreement import agree
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import ARITHMETICS, KERNELS
from strategies import KINDS, filled, in_layout, seeds, weights_in_layout

from pyodl.primitives import _convolution
from pyodl.primitives._image import Image
from pyodl.primitives._staging import Stager

pytestmark = pytest.mark.usefixtures("every_operation_is_shared")

NONFINITE, NEGATIVE_ZERO = 1, 2
EXACT = ("fp16-fp32acc", "fp16-muladd")  # whose sums, from +0 on, are never -0
arithmetics = st.sampled_from(list(ARITHMETICS))
every_arithmetic = pytest.mark.parametrize("arithmetic", ARITHMETICS)
num_threads = st.integers(1, 3)
channels = st.sampled_from([1, 2, 3, 7, 8, 9, 16, 17, 33])
few = st.integers(1, 4)
padding = st.tuples(*[st.integers(0, 2)] * 4)
taps = st.sampled_from([(1, 1), (3, 3), (5, 5), (2, 3), (3, 2), (1, 2)])
sequential = st.sampled_from(["naive", "naive_m", "unroll_2x1", "unroll_8x1"])
# Weights and the output gradient.
together = st.one_of(
    st.sampled_from(
        [("tiny", "vanishing"), ("vanishing", "tiny"), ("special", "tiny"), ("normal", "zeros")]
    ),
    st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
)


@pytest.fixture
def doubts(outputs_of):
    """The flags of the input gradients that have been interleaved, one a row of phases."""
    return outputs_of(_convolution, "interleave", 1)


@pytest.fixture
def images(monkeypatch):
    """The images that have been staged."""
    seen, stage = [], Stager.stage

    def remember(self, kind, *args, **keywords):
        if isinstance(kind, Image):
            seen.append(kind)
        return stage(self, kind, *args, **keywords)

    monkeypatch.setattr(Stager, "stage", remember)
    return seen


def output_size(size, kernel, stride, pad):
    return tuple(
        (n + before + after - k) // stride + 1
        for n, k, before, after in zip(size, kernel, pad[::2], pad[1::2], strict=True)
    )


@every_arithmetic
def test_input_gradients_of_a_stride(arithmetic, doubts):
    fmt, ran = ARITHMETICS[arithmetic].storage, Counter()

    @settings(max_examples=250)
    @given(
        st.sampled_from(["CHW", "CHW", "HWC"]), channels, few, st.integers(1, 19),
        st.integers(1, 19), taps, st.sampled_from([2, 2, 2, 3]), padding, together, seeds,
        st.sampled_from([False, False, False, True]), sequential, num_threads,
    )  # fmt: skip
    def run(layout, c_in, c_out, height, width, kernel, stride, pad, kinds, seed, infinite,
            matmul, threads):  # fmt: skip
        out = output_size((height, width), kernel, stride, pad)
        assume(min(out) > 0)
        w = filled(weights_in_layout(layout, c_out, c_in, kernel), fmt, kinds[0], seed)
        if infinite:
            w.reshape(-1)[seed % w.size] = -np.inf
        dy = filled(in_layout(layout, c_out, out), fmt, kinds[1], seed + 1)
        doubts.clear()
        dx = agree(
            "conv2d_input_grad", w, dy, (height, width), stride=stride, padding=pad,
            layout=layout, kernel=matmul, cores=3, arithmetic=arithmetic, num_threads=threads,
        )  # fmt: skip
        if not doubts:
            ran["whole"] += 1
            return
        assert len({id(flag) for flag in doubts}) == 1
        assert layout == "CHW"
        doubt = int(doubts[0][0])
        bits = dx.view(f"u{dx.itemsize}")
        assert bool(doubt & NONFINITE) == (not np.isfinite(w.astype(np.float32)).all())
        assert doubt or arithmetic in EXACT or not (bits == 1 << (8 * dx.itemsize - 1)).any()
        ran[doubt & NONFINITE or doubt] += 1

    run()
    assert ran["whole"] >= 20, ran
    assert ran[0] >= 15, ran
    assert ran[NONFINITE] >= 15, ran
    assert ran[NEGATIVE_ZERO] == 0 if arithmetic in EXACT else ran[NEGATIVE_ZERO] >= 3, ran


@pytest.mark.parametrize("width", [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 66, 97, 128, 129])
@pytest.mark.parametrize("arithmetic", ["fp16-fp32acc", "fp16-fma", "bf16-fma", "fp32"])
@pytest.mark.parametrize("tap", [0, 1])
def test_one_negative_zero_anywhere_is_found(arithmetic, width, tap, doubts):
    """It becomes what the products with the stride's zeros make of it."""
    fmt = ARITHMETICS[arithmetic].storage
    w = np.full((1, 1, 1, 2), 2.0 ** (fmt.emin - fmt.precision + 1), fmt.dtype)
    w[..., tap] *= -1
    for place in range(0, width // 2 + 1, max(width // 18, 1)):
        dy = np.ones((1, 1, width // 2 + 1), fmt.dtype)
        dy[..., place] = 0.25  # of two products that vanish one is negative
        doubts.clear()
        agree("conv2d_input_grad", w, dy, (1, width), stride=2, padding=(0, 0, 1, 1),
              layout="CHW", arithmetic=arithmetic)  # fmt: skip
        inside = 0 <= 2 * place - 1 + tap < width
        assert int(doubts[0][0]) == (NEGATIVE_ZERO if inside and arithmetic not in EXACT else 0)


def test_a_zero_weight_makes_positive_zero_of_what_underflowed(doubts):
    """-0 from the only term that a phase keeps; the terms left out are +0 and come after it."""
    w = np.zeros((2, 1, 3, 3), np.float16)
    w[0] = 2.0**-24
    dy = np.zeros((2, 8, 8), np.float16)
    dy[0] = -(2.0**-24)
    call = {"stride": 2, "padding": 1, "layout": "CHW", "arithmetic": "fp16-fma"}
    dx = agree("conv2d_input_grad", w, dy, (16, 16), **call)
    assert (dx.view(np.uint16) == 0).all()
    dx = agree("conv2d_input_grad", w[:1], dy[:1], (16, 16), **call)
    assert (dx.view(np.uint16) == 0x8000).any()
    assert int(doubts[-1][0]) == NEGATIVE_ZERO


@every_arithmetic
def test_widths_that_do_or_do_not_fill_registers(arithmetic, images):
    fmt, ran = ARITHMETICS[arithmetic].storage, Counter()

    @settings(max_examples=300)
    @given(
        st.sampled_from(["CHW", "CHW", "CHW", "HWC"]), few, st.sampled_from([1, 3, 8, 16, 33]),
        st.sampled_from([6, 3, 10, 1, 8, 13, 2]), st.integers(1, 40), taps,
        st.sampled_from([1, 2, 2]), padding, st.sampled_from(KERNELS), st.sampled_from(KINDS),
        seeds, num_threads,
    )  # fmt: skip
    def run(layout, c_in, c_out, height, width, kernel, stride, pad, matmul, kind, seed, threads):
        out = output_size((height, width), kernel, stride, pad)
        assume(min(out) > 0)
        x = filled(in_layout(layout, c_in, (height, width)), fmt, kind, seed)
        w = filled(weights_in_layout(layout, c_out, c_in, kernel), fmt, "normal", seed + 1)
        dy = filled(in_layout(layout, c_out, out), fmt, kind, seed + 2)
        call = {
            "stride": stride, "padding": pad, "layout": layout, "kernel": matmul, "cores": 2,
            "arithmetic": arithmetic, "num_threads": threads,
        }  # fmt: skip
        images.clear()
        agree("conv2d_forward", x, w, None, **call)
        agree("conv2d_weight_grad", x, dy, kernel, **call)
        agree("conv2d_input_grad", w, dy, (height, width), **call)
        for image in images:
            ran[image.stride[1], image.unrolled is not None] += 1

    run()
    assert min(ran[1, True], ran[1, False], ran[2, True], ran[2, False]) >= 5, ran
