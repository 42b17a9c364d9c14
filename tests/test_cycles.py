"""The cycle model: hand-counted loops, a pipeline that is simulated, and what every nest keeps."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rv32 import counts as rv32

from pyodl import arithmetic
from pyodl.device import convolution_nests as nests
from pyodl.device.loops import Code, Core, Loop, count
from pyodl.device.matmul_nests import (
    REGISTER_TILES,
    Form,
    RegisterTile,
    block,
    form_of,
    inner,
    matmul_nest,
    matvec_nest,
)
from pyodl.primitives._geometry import Convolution
from pyodl.primitives._orders import MATMUL_KERNELS, MATVEC_KERNELS

FP32, FP16, MULADD, WIDEN = Form(1, "fma", 4), Form(2, "fma"), Form(2, "muladd"), Form(2, "widen")
ALONE = Core()
LARGE_TILE = RegisterTile(2, 4, vector=True)


def test_every_matmul_kernel_has_a_register_tile():
    assert tuple(REGISTER_TILES) == MATMUL_KERNELS


@pytest.mark.parametrize("name", rv32.HAND)
def test_model_has_the_instructions_counted_by_hand(name):
    assert rv32.model(name) == rv32.HAND[name]


def test_compiler_has_the_instructions_counted_by_hand():
    missing = rv32.missing_tools()
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed (Debian: clang-19 llvm-19)")
    assert {name: found for name, (found, _) in rv32.compiled().items()} == rv32.HAND


def per_iteration(tile, form, core=ALONE, **how):
    """Return the cycles of one more iteration over k."""
    code = inner(tile, form, 100, 100, **how)
    hundred, more = (count([Loop(n, (code,))], core).total for n in (100, 200))
    return (more - hundred) / 100


@pytest.mark.parametrize(
    "tile, form, transposed, cycles",
    [
        (LARGE_TILE, FP16, True, 14),  # 6 loads, 8 vector multiply-adds: 16 products
        (LARGE_TILE, FP16, False, 18),  # and 4 shuffles
        (LARGE_TILE, FP32, True, 14),  # for 8 products
        (LARGE_TILE, MULADD, True, 22),
        (RegisterTile(1, 2, vector=True), FP16, True, 5),
        (RegisterTile(1, 2, vector=True), FP16, False, 7),
        (RegisterTile(1, 2, vector=True), WIDEN, True, 16),
        (RegisterTile(8, 1, vector=False), FP16, True, 17),
        (RegisterTile(1, 1, vector=False), FP16, True, 4),  # waits for its second load
        (RegisterTile(1, 1, vector=False), WIDEN, True, 5),  # converts the first meanwhile
    ],
)
def test_inner_loop_takes_its_hand_counted_cycles(tile, form, transposed, cycles):
    assert per_iteration(tile, form, transpose_b=transposed) == cycles


def test_eight_cores_stay_below_the_bound_of_the_inner_loop():
    assert 8 * 16 / per_iteration(LARGE_TILE, FP16, transpose_b=True) == pytest.approx(9.142857)


def test_rows_of_odd_length_begin_in_the_middle_of_a_word():
    code = inner(LARGE_TILE, FP16, 27, 16, transpose_b=True)
    assert code.misaligned == 3  # every other row of six
    assert inner(LARGE_TILE, FP16, 16, 27, transpose_b=True).misaligned == 0
    assert inner(LARGE_TILE, FP16, 16, 27, transpose_b=False).misaligned == 2
    assert inner(LARGE_TILE, FP32, 27, 27, transpose_b=True).misaligned == 0


def test_two_levels_of_loops_are_free_and_the_third_branches():
    body = Code(alu=5)
    assert count([Loop(10, (body,))], ALONE).total == 1 + 10 * 5
    assert count([Loop(4, (body, Loop(10, (body,))))], ALONE).total == 1 + 4 * (5 + 51)
    nest = Loop(3, (Loop(4, (Loop(10, (body,)),)),))
    inside = 1 + 4 * 51
    # zero of the counter; then its step and its branch, which is taken all but once
    assert count([nest], ALONE).total == 1 + 3 * (inside + 2) + 2 * 2


def test_a_branch_in_the_body_keeps_a_loop_from_being_free():
    assert count([Loop(10, (Code(alu=4, skips=1),))], ALONE).total == 1 + 10 * (5 + 2) + 9 * 2


def test_a_free_loop_has_at_least_three_instructions():
    assert count([Loop(10, (Code(stores=1),))], ALONE).total == 1 + 10 * 3


def test_a_loop_that_never_runs_costs_nothing():
    assert count([Loop(0, (Code(alu=4),))], ALONE).total == 0


def simulated(code, core, times):
    """Run code so often on an in-order pipeline; return when the last instruction was issued."""
    now = free = 0
    ready = [0] * code.chains

    def issue(needs=0, *, floating=False):
        nonlocal now, free
        now = max(now + 1, needs, free if floating else 0)
        if floating:
            free = now + (1 if core.pipelined else core.latency)
        return now + core.latency

    for _ in range(times):
        for _ in range(int(code.loads + code.alu + code.stores)):
            issue()
        converted = [issue(floating=True) for _ in range(int(code.fp))]
        needs = converted[0] if converted else 0
        for _ in range(int(code.fma) // code.chains):
            products = [needs] * code.chains
            if code.products:
                products = [issue(needs, floating=True) for _ in products]
            for chain, product in enumerate(products):
                ready[chain] = issue(max(product, ready[chain]), floating=True)
    return now


@settings(max_examples=200)
@given(
    loads=st.integers(0, 6),
    chains=st.integers(1, 8),
    rounds=st.integers(1, 3),
    fp=st.integers(0, 4),
    latency=st.integers(1, 6),
    pipelined=st.booleans(),
    rounded=st.booleans(),
)
def test_waits_for_the_fpu_are_those_of_a_simulated_pipeline(
    loads, chains, rounds, fp, latency, pipelined, rounded
):
    fma = chains * rounds
    code = Code(loads=loads, fma=fma, chains=chains, fp=fp, products=fma * rounded)
    assume(code.instructions >= 3)  # as a hardware loop must have
    core = Core(latency=latency, pipelined=pipelined)
    steady = (simulated(code, core, 200) - simulated(code, core, 100)) / 100
    assert (
        count([Loop(200, (code,))], core).total - count([Loop(100, (code,))], core).total
    ) / 100 == pytest.approx(steady)


def totals(nest, kind):
    """Return how many instructions of a kind a nest has."""
    return sum(
        part.trips * totals(part.body, kind) if isinstance(part, Loop) else getattr(part, kind)
        for part in nest
    )


def accumulated(nest):
    """Return how many accumulations a nest has."""
    return totals(nest, "fma")


sizes = st.integers(1, 40)
cores = st.sampled_from([1, 2, 3, 4, 8])
kernels = st.sampled_from(MATMUL_KERNELS)


@settings(max_examples=200)
@given(kernels, sizes, sizes, sizes, cores, st.booleans())
def test_cores_share_all_multiply_accumulates(kernel, n, k, m, cores, transposed):
    found = [matmul_nest(kernel, n, k, m, transposed, cores, core, FP32) for core in range(cores)]
    total = sum(accumulated(nest) for nest in found)
    # Groups of rows or columns that straddle two blocks are computed by both cores.
    again = 0 if kernel in {"naive", "naive_m", "simd_2x4", "simd_4x8", "unroll_2x1"} else 8
    assert n * k * m <= total <= (n + again * cores) * k * (m + again * cores)
    if not again:
        assert total == n * k * m


@settings(max_examples=50)
@given(st.sampled_from(MATVEC_KERNELS), sizes, sizes, cores)
def test_cores_share_all_rows_of_a_matrix_vector_product(kernel, n, k, cores):
    found = [matvec_nest(kernel, n, k, cores, core, FP32) for core in range(cores)]
    assert sum(accumulated(nest) for nest in found) == n * k


@settings(max_examples=100)
@given(
    kernels,
    sizes,
    sizes,
    sizes,
    st.sampled_from([FP32, FP16, MULADD, WIDEN]),
    st.booleans(),
    st.integers(1, 5),
)
def test_no_slower_core_is_ever_faster(kernel, n, k, m, form, transposed, latency):
    nest = matmul_nest(kernel, n, k, m, transposed, 8, 0, form)
    base = Core(latency=latency, active=4)
    cycles = count(nest, base).total
    assert cycles >= form.lanes**-1 * accumulated(nest)
    for worse in (
        replace(base, latency=latency + 1),
        replace(base, pipelined=False),
        replace(base, shared_by=4),
        replace(base, active=8),
        replace(base, banks=4),
    ):
        assert count(nest, worse).total >= cycles - 1e-9


@given(st.integers(0, 100), cores)
def test_blocks_are_the_firmware_s(size, cores):
    blocks = [block(size, cores, core) for core in range(cores)]
    assert sum(blocks) == size
    assert all(
        found in {-(-size // cores), blocks[-1], 0} or found < -(-size // cores) for found in blocks
    )


def products_inside(conv):
    """Return the pairs of an output and a tap that lie inside the image, counted one by one."""
    (up, _, left, _), (sh, sw), (kh, kw) = conv.padding, conv.stride, conv.kernel
    height, width = conv.out_size
    return sum(
        0 <= i * sh + y - up < conv.height and 0 <= j * sw + x - left < conv.width
        for i in range(height)
        for j in range(width)
        for y in range(kh)
        for x in range(kw)
    )


geometries = st.builds(
    Convolution,
    *(st.integers(1, 9), st.integers(3, 9), st.integers(3, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(*[st.integers(0, 1)] * 4),
    st.just("CHW"),
)


@settings(max_examples=100)
@given(geometries, cores)
def test_direct_loops_skip_padding_and_share_the_rest(conv, cores):
    tiles = {
        nests.direct_forward: (conv.out_channels, conv.out_size[0], conv.channels),
        nests.direct_weight_grad: (conv.out_channels, conv.channels, conv.out_size[0]),
        nests.direct_input_grad: (conv.channels, conv.height, conv.out_channels),
    }
    wanted = conv.channels * conv.out_channels * products_inside(conv)
    for nest, tile in tiles.items():
        parts = (nest(conv, nests.Extent(*tile), cores, core, FP16) for core in range(cores))
        assert sum(totals(part, "fma") for part in parts) == pytest.approx(wanted)


@settings(max_examples=100)
@given(geometries, cores, st.sampled_from([FP16, FP32]))
def test_im2row_stores_every_element_of_its_matrix(conv, cores, form):
    tile = nests.Extent(conv.out_channels, conv.out_size[0], conv.channels)
    parts = [nests.im2row(conv, tile, cores, core, form) for core in range(cores)]
    width, lanes = conv.kernel[1], form.lanes
    each = width // lanes + width % lanes  # stores of one row of the kernel
    assert sum(totals(part, "stores") for part in parts) == pytest.approx(
        conv.pixels * conv.channels * conv.kernel[0] * each
    )


def test_depthwise_gradients_are_computed_by_every_core():
    conv = Convolution(8, 6, 6, 8, (3, 3), (1, 1), (1, 1, 1, 1), "CHW")
    tile = nests.Extent(8, 6, 1)
    for nest, share in (
        (nests.depthwise_forward, 1),
        (nests.depthwise_weight_grad, 8),
        (nests.depthwise_input_grad, 8),
    ):
        parts = (nest(conv, tile, 8, core, FP16) for core in range(8))
        assert sum(totals(part, "fma") for part in parts) == pytest.approx(share * 8 * 36 * 9)


def test_a_pair_of_im2row_takes_its_hand_counted_cycles():
    conv = Convolution(1, 8, 8, 1, (1, 2), (1, 1), (0, 0, 0, 1), "CHW")
    code = nests.im2row(conv, nests.Extent(1, 1, 1), 1, 0, FP16)[1]
    while isinstance(code, Loop):
        code = code.body[-1]
    # A load, a store, two columns, six tests; on average one of load and store crosses a word.
    assert count([code], ALONE).total == 10 + 1


def test_a_shared_unit_halves_a_loop_that_keeps_it_busy():
    code = Code(fma=8, chains=8)
    alone, shared = (count([Loop(100, (code,))], Core(shared_by=n)).total for n in (1, 2))
    assert (alone, shared) == (801, 1601)
    loads = Code(loads=8, fma=8, chains=8)  # busy every other cycle: room for two
    assert count([Loop(100, (loads,))], Core(shared_by=2)).total == 1601


def test_bank_conflicts_are_the_stated_expectation():
    code = inner(LARGE_TILE, FP16, 100, 100, transpose_b=True)
    found = count([code], Core(active=8, banks=16)).banks
    assert found == pytest.approx(6 * 7 * (6 / 14) / (2 * 16))


@pytest.mark.parametrize(
    "name, lanes, step",
    [
        ("fp32", 1, "fma"),
        ("fp16-fma", 2, "fma"),
        ("fp16-muladd", 2, "muladd"),
        ("fp16-fp32acc", 2, "widen"),
        ("bf16-fma", 2, "fma"),
        ("bf16-fp32acc", 2, "widen"),
    ],
)
def test_each_arithmetic_has_its_form(name, lanes, step):
    found = form_of(arithmetic.get(name), lanes)
    assert (found.lanes, found.step) == (lanes, step)
    assert form_of(arithmetic.get(name), 8).lanes == 2  # the kernels are written for two
