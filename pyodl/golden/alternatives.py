"""What a device may have done instead: one hypothesis each, and how to compute its bits.

Where a hypothesis is another choice of what pyodl has, the primitive itself runs with it. What no
call of pyodl's does is modelled on matrix products (`_products`), plainly.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from pyodl import arithmetic as arithmetics
from pyodl.formats import add, from_bits, mul, round_to, sub, to_bits
from pyodl.golden._products import (
    Accumulator,
    Product,
    Unfused,
    kernel_of,
    product_of,
    summed,
)
from pyodl.golden.cases import Case
from pyodl.primitives._orders import MATMUL_KERNELS, MATVEC_KERNELS, Order

__all__ = ["Hypothesis", "hypotheses"]

Inputs = Mapping[str, ndarray]
Outputs = Mapping[str, ndarray]
_MOST_CORES = 16


@dataclass(frozen=True)
class Hypothesis:
    """What a device may have done instead.

    Parameters
    ----------
    kind : str
        Such as "kernel"; hypotheses of one kind are told together.
    choice : str
        Which of them, such as "simd_4x8".
    sentence : str
        For people; ``{}`` stands for the choices.
    run : callable
        Maps a case and its inputs to the outputs' values; raises ValueError where the hypothesis
        makes no sense.
    """

    kind: str
    choice: str
    sentence: str
    run: Callable[[Case, Inputs], Outputs]


def _override(kind: str, choice: str, sentence: str, **fields: Any) -> Hypothesis:
    return Hypothesis(kind, choice, sentence, lambda case, x: case.run(x, **fields))


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Yield what a device may have done instead of a case, the likeliest first."""
    yield from arithmetics_of(case)
    yield from _unfused(case)
    yield from _other_kernels(case)
    yield from _other_paddings(case)
    yield from _LEFTOVERS
    yield from _other_cores(case)
    yield _MISSING_BLOCK
    if "bias" in case.shapes:
        yield from _BIASES
    yield from _FLUSHES
    yield from _other_formats(case)


_ARITHMETIC_SENTENCES = {
    "fma": "every multiply-add is fused ({})",
    "muladd": "products are rounded before they are added: not fused ({})",
    "fp32acc": "sums are accumulated in FP32 ({})",
}


def arithmetics_of(case: Case) -> Iterator[Hypothesis]:
    """Yield the other arithmetics of the same storage format."""
    storage = arithmetics.get(case.arithmetic).storage
    for name, arithmetic in arithmetics.ARITHMETICS.items():
        if arithmetic.storage is storage and name != case.arithmetic:
            sentence = _ARITHMETIC_SENTENCES[name.rpartition("-")[2]]
            yield _override("arithmetic", name, sentence, arithmetic=name)


def _unfused(case: Case) -> Iterator[Hypothesis]:
    """Yield two roundings in the storage format, where no arithmetic of pyodl's has them."""
    storage = arithmetics.get(case.arithmetic).storage
    narrow = [
        arithmetic
        for arithmetic in arithmetics.ARITHMETICS.values()
        if arithmetic.storage is storage and arithmetic.accumulator is storage
    ]
    if all(arithmetic.fused for arithmetic in narrow):
        model = _sgd_unfused if case.primitive == "sgd" else _product_unfused
        yield Hypothesis(
            "unfused",
            storage.name,
            _ARITHMETIC_SENTENCES["muladd"],
            lambda case, x: model(case.replace(arithmetic=narrow[0].name), x),
        )


def _product_unfused(case: Case, x: Inputs) -> Outputs:
    product = _product(case, x)
    accumulator = Unfused(case.arithmetic)
    return _result(product, case, x, summed(product, case, own_sums(product, case), accumulator))


def _sgd_unfused(case: Case, x: Inputs) -> Outputs:
    format = arithmetics.get(case.arithmetic).storage
    w, grad = x["w"], x["grad"]
    lr, decay = (
        np.asarray(round_to(float(case.parameters.get(name, 0.0)), format))
        for name in ("lr", "weight_decay")
    )
    if decay != 0:
        grad = np.asarray(add(grad, mul(decay, w, format), format))
    return {"w_new": np.asarray(sub(w, mul(lr, grad, format), format)), "grad_new": grad}


def _other_kernels(case: Case) -> Iterator[Hypothesis]:
    names: tuple[str, ...] = MATVEC_KERNELS if case.primitive == "matvec" else MATMUL_KERNELS
    if not _takes(case, "kernel"):
        return
    for name in names:
        if name != kernel_of(case):
            yield _override("kernel", name, "the matmul kernel is {}", kernel=name)


def _takes(case: Case, parameter: str) -> bool:
    """Whether the case's primitive has such a parameter."""
    try:
        case.replace(**{parameter: case.parameters.get(parameter)})
    except (TypeError, ValueError):
        return False
    return True


def _other_cores(case: Case) -> Iterator[Hypothesis]:
    for cores in range(1, _MOST_CORES + 1):
        if cores != case.cores:
            yield _override("cores", str(cores), "the work is divided over {} cores", cores=cores)


def _other_paddings(case: Case) -> Iterator[Hypothesis]:
    padding = case.parameters.get("padding", 0)
    if isinstance(padding, int):
        return
    up, down, left, right = padding
    swaps = {
        "up and down": (down, up, left, right),
        "left and right": (up, down, right, left),
        "up and down, left and right": (down, up, right, left),
        "rows and columns": (left, right, up, down),
    }
    for choice, swapped in swaps.items():
        if swapped != tuple(padding):
            sentence = "the padding of {} is swapped"
            yield _override("padding", choice, sentence, padding=swapped)


# ---- leftovers of the two lanes --------------------------------------------------------------

Sums = Callable[[Accumulator, ndarray, ndarray], ndarray]


def _lanes(acc: Accumulator, a: ndarray, b: ndarray, first: ndarray, second: ndarray) -> ndarray:
    return acc.plus(acc.dot(a, b, first), acc.dot(a, b, second))


def _terms(k: int) -> tuple[ndarray, ndarray, ndarray]:
    """Return the even and the odd terms of the whole pairs, and the leftover."""
    even = k - k % 2
    return np.arange(0, even, 2), np.arange(1, even, 2), np.arange(even, k)


def _dropped(acc: Accumulator, a: ndarray, b: ndarray) -> ndarray:
    evens, odds, _ = _terms(a.shape[1])
    return _lanes(acc, a, b, evens, odds)


def _into_0(acc: Accumulator, a: ndarray, b: ndarray) -> ndarray:
    evens, odds, rest = _terms(a.shape[1])
    return _lanes(acc, a, b, np.concatenate([evens, rest]), odds)


def _into_1(acc: Accumulator, a: ndarray, b: ndarray) -> ndarray:
    evens, odds, rest = _terms(a.shape[1])
    return _lanes(acc, a, b, evens, np.concatenate([odds, rest]))


def _first(acc: Accumulator, a: ndarray, b: ndarray) -> ndarray:
    evens, odds, rest = _terms(a.shape[1])
    return _lanes(acc, a, b, np.concatenate([rest, evens]), odds)


def _apart(acc: Accumulator, a: ndarray, b: ndarray) -> ndarray:
    evens, odds, rest = _terms(a.shape[1])
    return acc.plus(acc.dot(a, b, rest), _lanes(acc, a, b, evens, odds))


def _crossed(acc: Accumulator, a: ndarray, b: ndarray) -> ndarray:
    """Round the leftover into lane 0 before lane 1 is added."""
    evens, odds, rest = _terms(a.shape[1])
    return acc.plus(acc.plus(acc.dot(a, b, evens), acc.dot(a, b, rest)), acc.dot(a, b, odds))


def _in_order(acc: Accumulator, a: ndarray, b: ndarray) -> ndarray:
    return acc.dot(a, b, np.arange(a.shape[1]))


def _leftover(choice: str, sentence: str, sums: Sums, *, odd_only: bool = True) -> Hypothesis:
    def run(case: Case, x: Inputs) -> Outputs:
        product = _product(case, x)
        orders = {region.order for region in product.regions(case)}
        if orders.isdisjoint({Order.LANES_SPLIT, Order.LANES_INTO_0}):
            raise ValueError("no output is summed in two lanes")
        if odd_only and product.sizes[1] % 2 == 0:
            raise ValueError("no term is left over")
        return _result(product, case, x, summed(product, case, sums))

    return Hypothesis("leftover", choice, sentence, run)


def _product(case: Case, x: Inputs) -> Product:
    product = product_of(case, x)
    if product is None:
        raise ValueError("not a matrix product")
    return product


def _result(product: Product, case: Case, x: Inputs, c: ndarray) -> Outputs:
    """Return the outputs of a case from C, its bias added."""
    y = np.ascontiguousarray(product.arrange(c))
    if "bias" in x:
        y = np.asarray(add(y, _along(case, x["bias"], y), product.a.dtype.name))
    return {product.output: y}


def _along(case: Case, bias: ndarray, y: ndarray) -> ndarray:
    """Return a bias for every element of an output."""
    last = case.parameters.get("layout") == "HWC"
    spread = bias if last else bias.reshape(-1, *[1] * (y.ndim - 1))
    return np.ascontiguousarray(np.broadcast_to(spread, y.shape))


_LEFTOVERS = (
    _leftover("dropped", "the last product of an odd K is {}", _dropped),
    _leftover("added to lane 0", "the last product of an odd K is {}", _into_0),
    _leftover("added to lane 1", "the last product of an odd K is {}", _into_1),
    _leftover("the first of lane 0", "the last product of an odd K is {}", _first),
    _leftover("added to the sum of the lanes", "the last product of an odd K is {}", _apart),
    _leftover("rounded into lane 0 first", "the last product of an odd K is {}", _crossed),
    _leftover(
        "not used", "the two lanes are {}: terms are added in order", _in_order, odd_only=False
    ),
)


# ---- blocks, bias, subnormals, formats --------------------------------------------------------


def _unwritten(size: int, cores: int) -> slice:
    """Return the last of the blocks for one core more than there is."""
    block = -(-size // (cores + 1))
    if cores * block >= size:
        raise ValueError("the last block is empty")
    return slice(cores * block, None)


def _missing_block(case: Case, x: Inputs) -> Outputs:
    """Blocks for one core more than there is: the last one's outputs stay +0."""
    product = product_of(case, x)
    if product is None:
        return _missing_items(case, x)
    n, _, m = product.sizes
    down_columns = kernel_of(case) in ("naive_m", "m_simd_2x4", "m_simd_4x8")
    unwritten = _unwritten(m if down_columns else n, case.cores)
    c = summed(product, case, own_sums(product, case))
    if down_columns:
        c[:, unwritten] = 0
    else:
        c[unwritten] = 0
    return _result(product, case, x, c)


_SHARED = {  # of what is no matrix product; depthwise gradients are not divided over cores
    **dict.fromkeys(
        ("conv2d_forward", "conv2d_weight_grad", "conv2d_input_grad", "depthwise_forward"),
        "channels",
    ),
    **{
        f"{pool}_pool_{step}": "channels"
        for pool in ("avg", "max")
        for step in ("forward", "backward")
    },
    **{
        f"{family}_{step}": "elements"
        for family in ("relu", "leaky_relu", "sigmoid")
        for step in ("forward", "backward")
    },
    **dict.fromkeys(("add", "sgd"), "elements"),
}
_IN_PLACE = {"w_new": "w", "grad_new": "grad"}  # by output: the input that is there before


def _missing_items(case: Case, x: Inputs) -> Outputs:
    """Blocks of channels or elements for one core more: what is last stays as it was."""
    shared = _SHARED.get(case.primitive)
    if shared is None:
        raise ValueError("not divided over cores")
    is_image = case.primitive != "conv2d_weight_grad"
    axis = -1 if is_image and case.parameters.get("layout") == "HWC" else 0
    outputs = {}
    for name, whole in case.run(x).items():
        y = whole.copy()
        before = x[_IN_PLACE[name]] if name in _IN_PLACE else np.zeros_like(y)
        items, kept = (
            tensor.reshape(-1) if shared == "elements" else np.moveaxis(tensor, axis, 0)
            for tensor in (y, before)
        )
        unwritten = _unwritten(len(items), case.cores)
        items[unwritten] = kept[unwritten]
        outputs[name] = y
    return outputs


def own_sums(product: Product, case: Case) -> Sums:
    """Return how the case's kernel sums its lanes."""
    orders = {region.order for region in product.regions(case)}
    return _apart if Order.LANES_SPLIT in orders else _into_0


_MISSING_BLOCK = Hypothesis(
    "blocks",
    "one core too many",
    "the work is divided for {}: the outputs of the last block are never written",
    _missing_block,
)


def _no_bias(case: Case, x: Inputs) -> Outputs:
    if case.primitive == "add_bias":
        return {"y": x["x"]}
    rest = {name: tensor for name, tensor in x.items() if name != "bias"}
    return case.replace(shapes={name: case.shapes[name] for name in rest}).run(rest)


def _bias_first(case: Case, x: Inputs) -> Outputs:
    """Begin sums with the bias instead of +0."""
    product = _product(case, x)
    orders = {region.order for region in product.regions(case)}
    if orders - {Order.SEQUENTIAL, Order.PRODUCT}:
        raise ValueError("sums in two lanes have no one beginning")
    bias = x["bias"]
    ones = [np.ones((len(matrix), 1), matrix.dtype) for matrix in (product.a, product.b)]
    channels_are_rows = len(product.a) == len(bias)
    own = bias.reshape(-1, 1)
    heads = (own, ones[1]) if channels_are_rows else (ones[0], own)
    a, b = (
        np.ascontiguousarray(np.concatenate([head, matrix], axis=1))
        for head, matrix in zip(heads, (product.a, product.b), strict=True)
    )
    acc = Accumulator(case.arithmetic)
    c = acc.stored(acc.dot(a, b, np.arange(a.shape[1])))
    return {product.output: np.ascontiguousarray(product.arrange(c))}


def _bias_unrounded(case: Case, x: Inputs) -> Outputs:
    """Add the bias to the sum before that is rounded to the storage format."""
    acc = Accumulator(case.arithmetic)
    if acc.format == acc.storage:
        raise ValueError("the accumulator is stored as it is")
    wide = case.replace(arithmetic="fp32")
    raw = {name: np.asarray(round_to(tensor, "float32")) for name, tensor in x.items()}
    return {name: acc.stored(y) for name, y in wide.run(raw).items()}


_BIASES = (
    Hypothesis("bias", "left out", "the bias is {}", _no_bias),
    Hypothesis(
        "bias", "where the sums begin", "the bias is {}, not added to the result", _bias_first
    ),
    Hypothesis(
        "bias", "added before the sum is rounded", "the bias is {} to storage", _bias_unrounded
    ),
)


def _flushed(values: ndarray) -> ndarray:
    """Return values with subnormals made zeros of their sign."""
    bits = np.asarray(to_bits(values)).copy()
    fraction = {"float16": 10, "bfloat16": 7, "float32": 23}[values.dtype.name]
    sign = 1 << (8 * bits.dtype.itemsize - 1)
    subnormal = bits & (sign - 1) < 1 << fraction
    bits[subnormal] &= sign
    return np.asarray(from_bits(bits, values.dtype.name))


def _flush(choice: str, *, inputs: bool, outputs: bool) -> Hypothesis:
    def run(case: Case, x: Inputs) -> Outputs:
        given = {name: _flushed(tensor) for name, tensor in x.items()} if inputs else x
        found = case.run(given)
        return {name: _flushed(y) for name, y in found.items()} if outputs else found

    return Hypothesis("subnormals", choice, "subnormal {} are flushed to zero", run)


_FLUSHES = (
    _flush("inputs", inputs=True, outputs=False),
    _flush("results", inputs=False, outputs=True),
    _flush("inputs and results", inputs=True, outputs=True),
)


def reinterpreted(x: Inputs, arithmetic: str) -> dict[str, ndarray]:
    """Return the bits of tensors as values of another format of the same width."""
    format = arithmetics.get(arithmetic).storage
    return {name: np.asarray(from_bits(to_bits(tensor), format)) for name, tensor in x.items()}


def _other_formats(case: Case) -> Iterator[Hypothesis]:
    """Yield the arithmetics of another storage format of as many bits."""
    own = arithmetics.get(case.arithmetic).storage
    for name, arithmetic in arithmetics.ARITHMETICS.items():
        other = arithmetic.storage
        if other is not own and other.bits == own.bits:
            sentence = f"bits are read and written as {other.name} ({{}})"
            yield Hypothesis("format", name, sentence, _run_as(name))


def _run_as(arithmetic: str) -> Callable[[Case, Inputs], Outputs]:
    return lambda case, x: case.run(reinterpreted(x, arithmetic), arithmetic=arithmetic)
