"""Matmul and matrix-vector kernels, bit for bit."""

import itertools

import pytest
from agreement import agree
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import FLOAT16, KERNELS, MATVEC_KERNELS
from strategies import environments, filled, kernels, sizes, threads


@settings(max_examples=500)
@given(environments(), kernels, st.booleans(), sizes, sizes, sizes, threads)
def test_matmul(environment, kernel, transposed, n, k, m, num_threads):
    common, array = environment
    a, b = array(n, k), array(*((m, k) if transposed else (k, m)))
    agree("matmul", a, b, transpose_b=transposed, kernel=kernel, num_threads=num_threads, **common)


@settings(max_examples=300)
@given(
    environments(), st.sampled_from([1, 2, 8, 9, 16, 17, 18, 19, 27, 34, 35]), st.integers(1, 20),
    st.integers(1, 200), threads,
)  # fmt: skip
def test_rows_around_those_of_a_tile(environment, n, k, m, num_threads):
    common, array = environment
    agree("matmul", array(n, k), array(k, m), num_threads=num_threads, **common)


@settings(max_examples=200)
@given(environments(), st.sampled_from(MATVEC_KERNELS), sizes, sizes, threads)
def test_matvec(environment, kernel, n, k, num_threads):
    common, array = environment
    agree("matvec", array(n, k), array(k), kernel=kernel, num_threads=num_threads, **common)


@pytest.mark.parametrize("transposed", [False, True], ids=["b", "b_transposed"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("arithmetic", ["fp16-fp32acc", "fp16-fma"])
def test_every_fall_back(arithmetic, kernel, transposed):
    """Sizes around each limit of the fall-back rules, where the order of additions changes."""
    for n, k, m in itertools.product((1, 2, 3, 4, 7, 8, 17), (1, 2, 3, 8), (1, 2, 3, 4, 5, 9)):
        a = filled((n, k), FLOAT16, "zeros" if k == 1 else "normal", n * 1000 + k)
        b = filled((m, k) if transposed else (k, m), FLOAT16, "normal", m * 1000 + k)
        for cores in (1, 2, 3, 8):
            agree(
                "matmul", a, b, transpose_b=transposed, kernel=kernel, cores=cores,
                arithmetic=arithmetic,
            )  # fmt: skip


def test_lanes_split_adds_the_last_product_to_zero():
    """The recorded bits say +0 for a last product that underflows to -0, lanes being -0 too."""
    from numpy import array, float16, uint16

    tiny = float16(2.0**-24)
    a = array([[tiny, tiny, tiny]], float16)
    b = array([[-tiny, -tiny, -tiny], [tiny, tiny, tiny]], float16)
    c = agree("matmul", a, b, transpose_b=True, kernel="simd_2x4", arithmetic="fp16-fma")
    assert c.view(uint16).tolist() == [[0x0000, 0x0000]]
    c = agree("matmul", a, b, transpose_b=True, kernel="naive", arithmetic="fp16-fma")
    assert c.view(uint16).tolist() == [[0x8000, 0x0000]]
