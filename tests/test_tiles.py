"""Device work of a training step: its steps, tiles against brute force, and the memory plan."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pyodl
from pyodl import models
from pyodl.device import DEVICES, Device, memory
from pyodl.device.steps import Matmul, steps
from pyodl.device.tiles import Tile, candidates, fitted, plan
from pyodl.layers import (
    Add,
    AvgPool2D,
    Conv2D,
    DepthwiseConv2D,
    Flatten,
    InstanceNorm,
    Linear,
    MaxPool2D,
    PointwiseConv2D,
    ReLU,
    Sigmoid,
)
from pyodl.primitives._orders import MATMUL_KERNELS, matmul_regions

PULP_OPEN = DEVICES["pulp-open"]


# ---- steps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, forward, step", [("resnet8", 12501632, 37062528), ("ds_cnn", 2656768, 7650304)]
)
def test_macs_are_the_networks(name, forward, step):
    net = models.MODELS[name]()
    work = steps(net)
    assert sum(s.macs for s in work if s.step == "forward") == forward
    assert sum(s.macs for s in work) == step
    for layer, macs in net.macs().items():
        own = {s.step: s.macs for s in work if s.layer == layer and s.macs}
        assert own == {which: count for which, count in macs.items() if count}


def test_products_have_the_macs_of_their_steps():
    for net in (models.resnet8(), models.ds_cnn()):
        for step in steps(net):
            if step.matmul:
                n, k, m = step.matmul.n, step.matmul.k, step.matmul.m
                # The input gradient by im2row multiplies the zeros of strides and padding too.
                assert n * k * m >= step.macs
                if step.kind != "conv2d" or step.step != "input_grad":
                    assert n * k * m == step.macs
                assert (n, m) == (step.space.channels, step.space.rows * step.space.columns)
                assert k == step.space.k * step.space.k_unit


def test_frozen_layers_and_all_below_are_left_out():
    net = models.resnet8()
    net.freeze("stem_conv", "stack1_conv1", "stack1_conv2", "stack3_conv2")
    work = steps(net)
    assert {s.layer for s in work if s.step == "update"} == {
        *("stack2_conv1", "stack2_conv2", "stack2_proj", "stack3_conv1", "stack3_proj", "linear")
    }
    assert not [s for s in work if s.layer == "stack3_conv2" and s.step == "weight_grad"]
    assert [s for s in work if s.layer == "stack3_conv2" and s.step == "input_grad"]
    assert not [
        s
        for s in work
        if s.layer.startswith("st")
        and s.step == "input_grad"
        and s.layer in ("stack2_conv1", "stack2_proj", "stem")
    ]
    macs = {layer: sum(counts.values()) for layer, counts in net.macs().items()}
    assert sum(s.macs for s in work) == sum(macs.values())


def test_a_step_reads_what_an_earlier_step_wrote():
    """Walk the tensors of a network with every layer: nothing is read before it is written."""
    for net in (everything(), models.resnet8(), models.ds_cnn()):
        there = {"input", "target", *net.parameters()}
        for step in steps(net):
            for operand in step.operands:
                assert not operand.loads or operand.name in there, (step.layer, step.step)
            there |= {operand.name for operand in step.operands if operand.stores}
        assert {f"d_{name}" for name in net.parameters()} <= there


def everything():
    layers = [
        Conv2D(6, 3, 2, 1, name="conv"),
        InstanceNorm(name="norm"),
        ReLU(name="relu"),
        DepthwiseConv2D(3, 1, 1, name="depthwise"),
        MaxPool2D(3, 2, name="max"),
        PointwiseConv2D(6, name="pointwise"),
        Sigmoid(name="sigmoid"),
        Conv2D(6, 3, 1, 1, algorithm="direct", bias=False, name="direct"),
        Add(inputs=("direct", "max"), name="add"),
        AvgPool2D(2, 1, name="mean"),
        Flatten(name="flatten"),
        Linear(5, name="linear"),
    ]
    return pyodl.Network(layers, (3, 16, 12))


def test_bytes_follow_the_storage_format():
    half, single = steps(everything()), steps(everything(), storage=pyodl.formats.FLOAT32)
    for a, b in zip(half, single, strict=True):
        assert [2 * o.bytes for o in a.operands] == [o.bytes for o in b.operands]


def test_operands_are_the_networks_tensors():
    net = everything()
    sizes = {name: array.nbytes for name, array in (net.activations() | net.parameters()).items()}
    sizes |= {f"d_{name}": array.nbytes for name, array in net.parameters().items()}
    found = {o.name: o.bytes for s in steps(net) for o in s.operands if o.name in sizes}
    assert found == {name: size for name, size in sizes.items() if name != "flatten"}


# ---- the planner against brute force -------------------------------------------------------------


@st.composite
def small_steps(draw):
    """One step of a small layer, cut out of a network of its own."""
    sizes = st.integers(1, 6)
    kind = draw(st.sampled_from(["conv", "direct", "depthwise", "pointwise", "linear", "max"]))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    matmul = draw(st.sampled_from(MATMUL_KERNELS))
    count = draw(sizes)
    shape = (draw(sizes), draw(st.integers(3, 8)), draw(st.integers(3, 6)))
    layer = {
        "conv": Conv2D(count, kernel, stride, padding, kernel=matmul, name="it"),
        "direct": Conv2D(count, kernel, stride, padding, algorithm="direct", name="it"),
        "depthwise": DepthwiseConv2D(kernel, stride, padding, name="it"),
        "pointwise": PointwiseConv2D(count, kernel=matmul, name="it"),
        "linear": Linear(count, kernel=matmul, name="it"),
        "max": MaxPool2D(kernel, stride, name="it"),
    }[kind]
    first = [Flatten()] if kind == "linear" else []
    below = [PointwiseConv2D(shape[0], bias=False, name="below"), *first]
    last = [] if kind == "linear" else [Flatten()]
    net = pyodl.Network([*below, layer, *last], shape)
    own = [s for s in steps(net) if s.layer == "it"]
    return draw(st.sampled_from(own))


def simulate(found):
    """Move operands tile by tile and count what really has to be moved; (L1, bytes, transfers)."""
    held, moved, transfers = {}, 0, dict.fromkeys(range(len(found.step.operands)), 0)
    largest = dict.fromkeys(transfers, 0)
    for piece in found.pieces():
        for i, operand in enumerate(found.step.operands):
            places = (
                (operand.channels, piece.channels),
                (operand.rows, piece.rows),
                (operand.k, piece.k),
            )
            place = tuple(taken for span, taken in places if span is not None)
            size = operand.piece(piece.channels, piece.rows, piece.k)
            largest[i] = max(largest[i], size)
            if (operand.loads or operand.stores) and held.get(i) != place:
                moved += size * (operand.loads + operand.stores)
                transfers[i] += 1
            held[i] = place
    l1 = sum(
        -(-size // 4) * 4 * (found.buffers if transfers[i] > 1 else 1)
        for i, size in largest.items()
    )
    directions = [o.loads + o.stores for o in found.step.operands]
    return l1, moved, sum(n * d for n, d in zip(transfers.values(), directions, strict=True))


def every_tile(step, *, cut_k):
    units = range(1, step.space.k + 1) if cut_k else [None]
    for channels in range(1, step.space.channels + 1):
        for rows in range(1, step.space.rows + 1):
            for unit in units:
                k = None if unit is None else unit * step.space.k_unit
                for outer in ("channels", "rows"):
                    yield Tile(channels, rows, k), outer


@settings(max_examples=60, deadline=None)
@given(
    step=small_steps(),
    l1=st.integers(20, 1500),
    buffers=st.sampled_from([1, 2]),
    cut_k=st.booleans(),
)
def test_planner_against_brute_force(step, l1, buffers, cut_k):
    device = Device("small", 2, l1_bytes=l1)
    assume(step.space.channels * step.space.rows * step.space.k <= 200)
    found = [
        fitted(step, device, tile, outer=outer, buffers=buffers)
        for tile, outer in every_tile(step, cut_k=cut_k)
    ]
    counted = [simulate(one) for one in found]
    assert [(p.l1_bytes, p.dma_bytes, p.dma_transfers) for p in found] == counted
    fitting = [moved for needed, moved, _ in counted if needed <= l1]
    if not fitting:
        with pytest.raises(ValueError, match=rf"layer 'it', {step.step}: the smallest tile needs"):
            plan(step, device, buffers=buffers, cut_k=cut_k)
        return
    best = plan(step, device, buffers=buffers, cut_k=cut_k)
    assert best.dma_bytes <= 1.01 * min(fitting)
    assert best.l1_bytes <= l1
    assert best in list(candidates(step, device, buffers=buffers, cut_k=cut_k))


@settings(max_examples=40, deadline=None)
@given(step=small_steps(), data=st.data())
def test_pieces_compute_every_output_once(step, data):
    space = step.space
    tile = Tile(
        data.draw(st.integers(1, space.channels)),
        data.draw(st.integers(1, space.rows)),
        data.draw(st.integers(1, space.k)) * space.k_unit,
    )
    found = fitted(step, PULP_OPEN, tile, outer=data.draw(st.sampled_from(["channels", "rows"])))
    count = np.zeros((space.channels, space.rows, space.k), int)
    pieces = list(found.pieces())
    for piece in pieces:
        count[slice(*piece.channels), slice(*piece.rows), slice(*piece.k)] += 1
    assert (count == 1).all()
    assert len(pieces) == found.tiles
    for before, after in pairwise(pieces):  # the parts of K run upwards, one output after the other
        if after.k[0]:
            assert (before.channels, before.rows, before.k[1]) == (
                *(after.channels, after.rows),
                after.k[0],
            )


def painted(kernel, matmul, n, m, cores):
    orders = np.full((n, m), -1)
    how = {"transpose_b": matmul.transpose_b, "cores": cores}
    for region in matmul_regions(kernel, n, matmul.k, m, **how):
        orders[slice(*region.rows), slice(*region.columns)] = region.order
    return orders


@settings(max_examples=150, deadline=None)
@given(
    kernel=st.sampled_from(MATMUL_KERNELS),
    matmul=st.builds(
        Matmul, st.integers(1, 40), st.integers(1, 6), st.integers(1, 40), st.booleans()
    ),
    part=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    cores=st.sampled_from([1, 2, 3, 8]),
)
def test_same_orders_against_painted_matrices(kernel, matmul, part, cores):
    from pyodl.device._orders import same_orders

    whole = painted(kernel, matmul, matmul.n, matmul.m, cores)
    tiles = np.empty_like(whole)
    for i in range(0, matmul.n, part[0]):
        for j in range(0, matmul.m, part[1]):
            view = tiles[i : i + part[0], j : j + part[1]]
            view[...] = painted(kernel, matmul, *view.shape, cores)
    part = (min(part[0], matmul.n), min(part[1], matmul.m))
    assert same_orders(kernel, matmul, part, cores) == (whole == tiles).all()


def test_plan_prefers_the_orders_of_the_whole():
    """With simd_4x8 and B transposed, pixels in multiples of 4 keep the columns' order."""
    for step in steps(models.resnet8()):
        if step.kind == "conv2d" and step.step == "forward":
            found = plan(step, PULP_OPEN, kernel="simd_4x8", buffers=1)
            others = [
                p
                for p in candidates(step, PULP_OPEN, kernel="simd_4x8", buffers=1)
                if p.same_orders and p.dma_bytes <= found.dma_bytes
            ]
            assert found.same_orders or not others


def test_a_step_that_does_not_fit_is_named():
    step = next(s for s in steps(models.resnet8()) if s.macs)
    device = Device("tiny", 8, l1_bytes=1000)
    least = min(
        fitted(step, device, tile, outer=outer, buffers=1).l1_bytes
        for tile, outer in every_tile(step, cut_k=False)
        if tile.channels in (1, 16) and tile.rows in (1, 32)
    )
    with pytest.raises(
        ValueError,
        match=rf"^layer 'stem_conv', forward: the smallest tile needs {least} bytes of L1, "
        rf"{least - 1000} more than the 1000 of tiny$",
    ):
        plan(step, device)
    assert plan(step, device, cut_k=True).cuts_k == (least > 1000)


def test_double_buffers_where_they_fit():
    step = next(s for s in steps(models.resnet8()) if s.layer == "stack1_conv1")
    least = {
        buffers: min(
            fitted(step, PULP_OPEN, tile, outer=outer, buffers=buffers).l1_bytes
            for tile, outer in every_tile(step, cut_k=False)
        )
        for buffers in (1, 2)
    }
    assert least[1] < least[2]
    for buffers, size in least.items():
        device = replace(PULP_OPEN, l1_bytes=size)
        assert plan(step, device).buffers == buffers
        assert plan(step, device).l1_bytes == size


def test_buffers_in_l1_do_not_overlap():
    for step in steps(everything()):
        found = plan(step, PULP_OPEN)
        ends = [b.offset + b.size * b.copies for b in found.l1_buffers()]
        assert [b.offset for b in found.l1_buffers()] == [0, *ends[:-1]]
        assert ends[-1] == found.l1_bytes <= PULP_OPEN.l1_bytes


def test_wrong_arguments_are_named():
    step = steps(everything())[0]
    with pytest.raises(ValueError, match="buffers is 3; it must be 1 or 2"):
        plan(step, PULP_OPEN, buffers=3)
    with pytest.raises(ValueError, match="kernel is 'fast'"):
        plan(step, PULP_OPEN, kernel="fast")


# ---- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [everything, models.resnet8, models.ds_cnn])
def test_memory_plan_gives_every_live_tensor_its_own_place(net):
    work = steps(net())
    found = memory.plan(work, PULP_OPEN)
    places = {tensor.name: tensor for tensor in found.tensors}
    for i, step in enumerate(work):
        live = sorted(found.live(i), key=lambda t: t.offset)
        for before, after in pairwise(live):
            assert before.offset + before.bytes <= after.offset
        assert sum(t.bytes for t in live) <= found.l2_live_bytes <= found.l2_bytes
        for operand in step.operands:
            if operand.role != "buffer":
                assert places[operand.name] in live
                assert places[operand.name].bytes >= operand.bytes
    assert found.l2_bytes == max(t.offset + t.bytes for t in found.tensors)
    assert found.l1_bytes == found.l1_peak.l1_bytes == max(p.l1_bytes for p in found.plans)
    assert found.l2_bytes <= PULP_OPEN.l2_bytes


def test_memory_reuses_what_is_dead():
    work = steps(models.resnet8())
    found = memory.plan(work, PULP_OPEN)
    assert found.l2_bytes < sum(tensor.bytes for tensor in found.tensors)
    assert found.l2_bytes <= 1.1 * found.l2_live_bytes


def test_a_step_that_does_not_fit_l2_is_named():
    work = steps(models.ds_cnn())
    needed = memory.plan(work, PULP_OPEN).l2_bytes
    with pytest.raises(
        ValueError,
        match=rf"^layer 'pointwise4_relu', input_grad: {needed} bytes of L2 are needed, "
        rf"{needed - 100000} more than the 100000 of small$",
    ):
        memory.plan(work, Device("small", 8, l2_bytes=100000))


def test_memory_takes_the_plans_of_its_steps():
    work = steps(everything())
    plans = [plan(step, PULP_OPEN, buffers=1) for step in work]
    assert memory.plan(work, PULP_OPEN, plans=plans).plans == tuple(plans)
    with pytest.raises(ValueError, match="plans are not those of the steps"):
        memory.plan(work, PULP_OPEN, plans=plans[1:])
