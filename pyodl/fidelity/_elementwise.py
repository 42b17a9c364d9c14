"""Defects of padding, sums, softmax, pooling, the L1 loss and instance normalisation."""

from math import prod

from pyodl.fidelity._call import Call, Defect, Found, blocks

__all__ = [
    "add",
    "instance_norm_forward",
    "instance_norm_input_grad",
    "l1_grad",
    "max_pool_backward",
    "pad",
    "softmax_forward",
]


def pad(call: Call) -> Found:
    """Yield the defects of `pad`."""
    up, down, left, right = call.padding
    for before, after in ((up, down), (left, right)):
        if before == 0 and after:
            what = "without padding before it, an axis is copied one element too far"
            yield Defect("out-of-bounds", "x", what, 14)
            yield Defect("wrong result", "out", what, 14)
        elif before > 1:
            what = "padding of two or more before an axis zeroes the last of its elements"
            yield Defect("wrong result", "out", what, 14)


def add(call: Call) -> Found:
    """Yield the defects of ``vect_sum``; the residual layer's sum has none."""
    if call.choice("algorithm", "residual", "vect_sum") == "residual":
        return
    size = prod(call.shapes[0])
    block = -(-size // call.cores)
    for start in range(0, call.cores * block, block):
        stop = size - 1 if start + block > size else start + block
        first, last = start + start % 2, stop - (stop % 2 == 0)
        if first < last and first + -(-(last - first) // 2) * 2 > size:
            what = "vect_sum works in pairs and writes one element after the last"
            yield Defect("out-of-bounds", "out", what, 15)
            return


def softmax_forward(call: Call) -> Found:
    """Yield the defects of ``vector_softmax``; the fast one has none."""
    n = call.shape(0, 1, 2)[-1]
    exp = call.choice("exp", "expf", "fast")
    if exp == "expf" and any(start >= n for start, _ in blocks(n, call.cores)):
        what = "a core without elements reads the one after the last for its maximum"
        yield Defect("out-of-bounds", "x", what, 15)


def max_pool_backward(call: Call) -> Found:
    """Yield what happens to every window of more than one element."""
    if call.pair("kernel_size") != (1, 1):
        what = "gradients are multiplied by a mask: one that is infinite or NaN spreads in a window"
        yield Defect("wrong result", "out", what, 16, modelled=True)


def l1_grad(call: Call) -> Found:
    """Yield what happens for every shape."""
    size = prod(call.shape(0, 1))
    what = f"where output and target are equal the gradient is 1/{size}, not 0"
    yield Defect("wrong result", "out", what, 16, modelled=True)


def instance_norm_forward(call: Call) -> Found:
    """Yield what happens to channels that are sure to be constant: those of one pixel."""
    _, height, width = call.shape(0, 3)
    if height * width == 1:
        what = "a constant channel divides by 0, because epsilon is 0 in binary16"
        yield Defect("wrong result", "out", what, 17, modelled=True)


def instance_norm_input_grad(call: Call) -> Found:
    """Yield what happens for every shape."""
    call.shape(0, 3)
    what = "it divides by the variance, which the forward pass does not store"
    yield Defect("wrong result", "out", what, 17)
