"""Data movement: every bit pattern survives, padding is +0."""

import itertools

import numpy as np
import pytest
from agreement import agree
from hypothesis import given
from hypothesis import strategies as st
from reference import FORMATS
from strategies import filled, in_layout, layouts, seeds, small, weights_in_layout, windows

formats = st.sampled_from(list(FORMATS.values()))
paddings = st.one_of(st.integers(0, 3), st.tuples(*[st.integers(0, 3)] * 4))


@given(formats, windows(), layouts, seeds)
def test_im2row_and_im2col(fmt, g, layout, seed):
    x = filled(in_layout(layout, g["cin"], g["size"]), fmt, "anybits", seed)
    geometry = {"stride": g["stride"], "padding": g["padding"], "layout": layout}
    rows = agree("im2row", x, g["kernel"], **geometry)
    columns = agree("im2col", x, g["kernel"], **geometry)
    assert np.array_equal(rows.view(fmt.bits), columns.T.copy().view(fmt.bits))


@given(formats, st.tuples(small, small, small, small), layouts, seeds)
def test_block_transpose(fmt, shape, layout, seed):
    cout, cin, *kernel = shape
    w = filled(weights_in_layout(layout, cout, cin, kernel), fmt, "anybits", seed)
    agree("block_transpose", w, layout=layout)


@given(formats, st.tuples(small, small, small), layouts, paddings, seeds)
def test_pad(fmt, shape, layout, padding, seed):
    agree("pad", filled(shape, fmt, "anybits", seed), padding, layout=layout)


@given(formats, st.tuples(small, small, small), seeds)
def test_channel_order(fmt, shape, seed):
    x = filled(shape, fmt, "anybits", seed)
    y = agree("chw_to_hwc", x)
    agree("hwc_to_chw", x)
    back = agree("hwc_to_chw", y)
    assert np.array_equal(back.view(fmt.bits), x.view(fmt.bits))


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_transpose(fmt, dimensions):
    for axes in itertools.permutations(range(dimensions)):
        agree("transpose", filled((2, 3, 5, 4)[:dimensions], fmt, "anybits", 3), axes)
