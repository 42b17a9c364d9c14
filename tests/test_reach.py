"""Threads wait for one another by what their parts reach: no part reads or writes anything else."""

import numpy as np
import pytest
from networks import an_image, step_of_network, uneven
from reference import ARITHMETICS

import pyodl
from pyodl.arithmetic import get
from pyodl.layers import Conv2D, Flatten, Linear
from pyodl.primitives._staging import bind_copy
from pyodl.primitives._steps import step_of

pytestmark = pytest.mark.usefixtures("every_operation_is_shared")


ALWAYS_NARROWED = {
    *("stage", "add_bias", "add", "sgd"),
    *("relu_forward", "relu_backward", "leaky_relu_forward", "sigmoid_backward"),
    *("avg_pool_forward", "avg_pool_backward", "max_pool_forward", "max_pool_backward"),
}


def operations(arithmetic):
    net = uneven(arithmetic)
    for _ in range(2):
        pyodl.train_step(net, an_image(net), 3, lr=0.01)
    return step_of_network(net).operations


def memory_of(operation):
    """Return each piece of memory that the arrays are, as bytes, and which arrays are there."""
    pieces = {}
    for i, array in enumerate(operation.arrays):
        if array is not None:
            raw = array.reshape(-1).view(np.uint8)
            pieces.setdefault((raw.ctypes.data, raw.size), (raw, []))[1].append(i)
    return list(pieces.values())


def check_part(operation, thread, threads, rng):
    """Run a part among random bits, and compare what it writes with the whole operation's."""
    memory = memory_of(operation)
    before = [raw.copy() for raw, _ in memory]
    operation.run_part(0, 1)
    whole = [raw.copy() for raw, _ in memory]
    reach = operation.reach(thread, threads)
    others = []
    for (raw, arrays), old in zip(memory, before, strict=True):
        raw[:] = old
        mask = np.ones(raw.size, bool)
        for i in arrays:
            mask[slice(*reach[i])] = False
        raw[mask] = rng.integers(0, 256, np.count_nonzero(mask), np.uint8)
        others.append((mask, raw[mask]))
    operation.run_part(thread, threads)
    try:
        for (raw, _), old, new, (mask, noise) in zip(memory, before, whole, others, strict=True):
            assert (raw[mask] == noise).all(), "wrote more than it reaches"
            assert (mask | (raw == old) | (raw == new)).all(), "read more than it reaches"
    finally:
        for (raw, _), old in zip(memory, before, strict=True):
            raw[:] = old


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_a_part_reaches_no_further_than_it_says(arithmetic):
    rng = np.random.default_rng(3)
    narrowed = set()
    for operation in operations(arithmetic):
        for threads in (2, 3, 5):
            for thread in range(threads):
                reach = operation.reach(thread, threads)
                if reach is None:
                    continue
                whole = [0 if a is None else a.nbytes for a in operation.arrays]
                if [stop - start for start, stop in reach] != whole:
                    narrowed.add(operation.name.rpartition(": ")[2])
                check_part(operation, thread, threads, rng)
        operation.run_part(0, 1)
    assert narrowed >= ALWAYS_NARROWED
    by_pixels = step_of(get(arithmetic)).lists_terms
    assert by_pixels or narrowed >= {"conv2d forward", "interleave"}


def convolutions_by_pixels(arithmetic):
    """Return forward of 3x3 and 1x1 convolutions, and the input gradient of the latter."""
    layers = [Conv2D(48, 3, padding=1, name="a"), Conv2D(64, 1, name="b"), Flatten(), Linear(10)]
    net = pyodl.Network(layers, (48, 9, 10), arithmetic=arithmetic, seed=1)
    pyodl.train_step(net, an_image(net), 3, lr=0.0)
    found = [o for o in step_of_network(net).operations if o.name.endswith("by pixels")]
    found = [o for o in found if "weight" not in o.name]
    assert len(found) == 3 * step_of(get(arithmetic)).lists_terms
    return found


@pytest.mark.parametrize("arithmetic", ["fp16-fma", "fp16-muladd"])
def test_a_part_of_a_convolution_by_pixels_reaches_its_own_channels(arithmetic):
    rng = np.random.default_rng(5)
    for operation in convolutions_by_pixels(arithmetic):
        whole = operation.arrays[3].nbytes
        for threads in (2, 3, 40):
            stops = [0]
            for thread in range(threads):
                start, stop = operation.reach(thread, threads)[3]
                assert start == stops[-1]
                assert threads == 40 or stop - start < whole
                stops.append(stop)
                check_part(operation, thread, threads, rng)
            assert stops[-1] == whole


@pytest.mark.parametrize("arithmetic", ["fp16-fma", "fp16-muladd"])
def test_every_thread_has_a_part_of_a_convolution_by_pixels(arithmetic):
    """As far as there are registers of output channels, or rows."""
    lanes = step_of(get(arithmetic)).lanes
    for operation in convolutions_by_pixels(arithmetic):
        out = operation.arrays[3]
        before = out.copy()
        for threads in (2, 3, 4, 8):
            busy = 0
            for thread in range(threads):
                out.view(np.uint16)[:] = 0x7FFF  # a NaN that no sum is
                operation.run_part(thread, threads)
                busy += bool((out.view(np.uint16) != 0x7FFF).any())
            assert busy >= min(threads, len(out) // lanes)
        out[:] = before  # what the next one reads


@pytest.mark.parametrize("sizes", [(3, 4, 5), (1, 1, 7), (2, 0, 3)])
def test_copies_in_any_direction_reach_what_they_say(sizes):
    rng = np.random.default_rng(4)
    source, target = (rng.standard_normal((4, 9, 20)).astype(np.float16) for _ in range(2))
    planes, rows, columns = (slice(0, size) for size in sizes)
    there = target[planes, rows, columns]
    for here in (
        source[planes, rows, columns],
        source[planes, rows, ::2][..., columns],
        source[::-1][planes, ::-1][:, rows, ::-1][..., columns],
        source.transpose(0, 2, 1)[planes, rows, columns],
    ):
        operation = bind_copy(source, here, target, there, 1)
        for threads in (2, 3, 5, 40):
            for thread in range(threads):
                check_part(operation, thread, threads, rng)
