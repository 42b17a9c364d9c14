"""Cycles of a step: its kernels' loop nests on the slowest core, and the DMA beside them.

A tile is one call of the firmware's primitive: its parallel sections run one after the other, each
with a fork and a join, and each takes as long as its slowest core. With two buffers the DMA of the
next tile runs while the cores work on this one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any

from pyodl import arithmetic as arithmetics
from pyodl._graph import Node
from pyodl.arithmetic import Arithmetic
from pyodl.device import convolution_nests as conv
from pyodl.device import elementwise_nests as plain
from pyodl.device._device import Device
from pyodl.device.convolution_nests import Extent
from pyodl.device.loops import Code, Core, Cycles, Loop, Nest, count
from pyodl.device.matmul_nests import Form, form_of, matmul_nest
from pyodl.device.steps import Step
from pyodl.device.tiles import TilePlan
from pyodl.formats import Format
from pyodl.primitives._orders import resolve

__all__ = ["Estimate", "Model", "model"]


@dataclass(frozen=True)
class Estimate:
    """Cycles of one step with one plan.

    Parameters
    ----------
    plan : TilePlan
    kernel : str
        The matmul kernel that the largest tile falls back to; "" without a matmul.
    cores : Cycles
        Of the slowest core, summed over tiles, by cause.
    forks : float
        Cycles of forks and joins.
    dma : float
        Cycles of the DMA, whether hidden behind the cores' work or not.
    cycles : float
        All together.
    """

    plan: TilePlan
    kernel: str
    cores: Cycles
    forks: float
    dma: float
    cycles: float

    @property
    def macs_per_cycle(self) -> float:
        """Multiply-accumulates per cycle."""
        return self.plan.step.macs / self.cycles


_Call = tuple[Callable[..., Nest], tuple[Any, ...]]  # a nest, and what it takes but cores and form


@dataclass(frozen=True)
class Model:
    """The cycle model of one arithmetic on one device.

    Parameters
    ----------
    device : Device
    arithmetic : Arithmetic
    """

    device: Device
    arithmetic: Arithmetic
    form: Form = field(init=False)

    def __post_init__(self) -> None:
        """Derive how the arithmetic looks in instructions."""
        lanes = self.device.lanes(self.arithmetic.storage)
        object.__setattr__(self, "form", form_of(self.arithmetic, lanes))

    def estimate(self, plan: TilePlan, node: Node | None) -> Estimate:
        """Return the cycles of a step.

        Parameters
        ----------
        plan : TilePlan
        node : Node or None
            The layer in its place; None for the loss.

        Returns
        -------
        Estimate
        """
        device = self.device
        cores, sections = Cycles(), 0
        for extent, times in _extents(plan):
            for calls in _sections(plan, node, extent):
                for nest, arguments in calls:
                    cores += self._slowest(nest, arguments).times(times)
                sections += times
        forks = float(sections * device.fork_cycles)
        dma = float(plan.dma_transfers * device.dma_setup_cycles)
        dma += plan.dma_bytes / device.dma_bytes_per_cycle
        working = cores.total + forks
        total = working + dma
        if plan.buffers == 2:  # the first tile is waited for, and the last one's outputs
            total = (total + (plan.tiles - 1) * max(working, dma)) / plan.tiles
        return Estimate(plan, self._resolved(plan), cores, forks, dma, total)

    def _slowest(self, nest: Callable[..., Nest], arguments: tuple[Any, ...]) -> Cycles:
        return _slowest(nest, arguments, self.device, self.arithmetic.accumulator, self.form)

    def _resolved(self, plan: TilePlan) -> str:
        if not plan.kernel:
            return ""
        extent, _ = next(_extents(plan))
        n, k, m = _sizes(plan.step, extent)
        return resolve(plan.kernel, n, k, m, self.device.cores)


@lru_cache(maxsize=65536)
def _slowest(
    nest: Callable[..., Nest],
    arguments: tuple[Any, ...],
    device: Device,
    accumulator: Format,
    form: Form,
) -> Cycles:
    """Return the cycles of core 0, which is the slowest: no other has a larger block."""
    first, last = 1, device.cores  # how many cores have work: the first ones
    middle = last  # mostly all of them have
    while first < last:
        if _works(nest(*arguments, device.cores, middle - 1, form)):
            first = middle
        else:
            last = middle - 1
        middle = (first + last + 1) // 2
    core = Core(
        device.fpu_latency(accumulator),
        device.fpu_pipelined(accumulator),
        min(device.fpu_shared_by, first),
        device.l1_banks,
        first,
    )
    return count(nest(*arguments, device.cores, 0, form), core)


def _works(nest: Nest) -> bool:
    """Return whether a core has more to do in a nest than to look."""
    return any(
        part.trips > 0
        and (any(isinstance(inner, Code) for inner in part.body) or _works(part.body))
        for part in nest
        if isinstance(part, Loop)
    )


_PRODUCTS: dict[tuple[str, str], tuple[Callable[..., Nest], ...]] = {  # before the product
    ("conv2d", "forward"): (conv.im2row,),
    ("conv2d", "weight_grad"): (conv.weight_grad_im2row,),
    ("conv2d", "input_grad"): (conv.block_transpose, conv.spread_im2row),
    ("pointwise", "input_grad"): (conv.transpose,),
}
_LOOPS: dict[tuple[str, str], tuple[Callable[..., Nest], ...]] = {
    ("conv2d", "forward"): (conv.direct_forward,),
    ("conv2d", "weight_grad"): (conv.direct_weight_grad,),
    ("conv2d", "input_grad"): (conv.direct_input_grad,),
    ("depthwise", "forward"): (conv.pad, conv.depthwise_forward),
    ("depthwise", "weight_grad"): (conv.weight_grad_pad, conv.depthwise_weight_grad),
    ("depthwise", "input_grad"): (conv.depthwise_input_grad,),
}
_POOLS = {"avgpool2d": plain.average_nest, "maxpool2d": plain.maximum_nest}


def _sections(plan: TilePlan, node: Node | None, extent: Extent) -> Iterator[list[_Call]]:
    """Yield the parallel sections of one tile: what each core runs one after the other."""
    step = plan.step
    key = (step.kind, step.step)
    if step.matmul is not None:
        for nest in _PRODUCTS.get(key, ()):
            yield [(nest, (_geometry(node), extent))]
        sizes = _sizes(step, extent)
        calls: list[_Call] = [(matmul_nest, (plan.kernel, *sizes, step.matmul.transpose_b))]
    elif key in _LOOPS:
        *before, last = _LOOPS[key]
        for nest in before:
            yield [(nest, (_geometry(node), extent))]
        calls = [(last, (_geometry(node), extent))]
    else:
        calls = [_plain(step, node, extent)]
    if any(operand.role == "bias" for operand in step.operands):
        calls.append((plain.elementwise_nest, ("add_bias", _outputs(step, extent))))
    yield calls


def _plain(step: Step, node: Node | None, extent: Extent) -> _Call:
    """Return the nest of a step that is neither a product nor a convolution."""
    channels, backward = extent.channels, step.step == "input_grad"
    for kind in (f"{step.kind}_{'backward' if backward else 'forward'}", step.kind):
        if kind in plain.ELEMENTWISE:
            return plain.elementwise_nest, (kind, _outputs(step, extent))
    if step.kind == "bias_grad":
        return plain.row_sums_nest, (channels, step.space.k_unit)
    if step.kind == "instancenorm":
        return plain.norm_nest, (step.step, channels, step.space.columns)
    if step.kind in _POOLS and node is not None:
        (shape,) = node.input_shapes
        layer: Any = node.layer
        window, _ = layer.windows(shape)
        windows = (node.shape[1] if backward else extent.rows) * node.shape[2]
        return _POOLS[step.kind], (channels, windows, window, prod(shape[1:]), backward)
    return plain.loss_nest, (_outputs(step, extent),)


@lru_cache(maxsize=1024)
def _geometry(node: Node | None) -> Any:
    """Return the geometry of a convolution; a pointwise one needs none."""
    layer: Any = node.layer if node else None
    return layer.geometry(node.input_shapes[0]) if node and hasattr(layer, "geometry") else None


def _outputs(step: Step, extent: Extent) -> int:
    return extent.channels * extent.rows * step.space.columns


def _extents(plan: TilePlan) -> Iterator[tuple[Extent, int]]:
    """Yield the sizes of a plan's tiles, whole ones first, and how many have each."""
    space, tile = plan.step.space, plan.tile
    k = space.k if tile.k is None else tile.k // space.k_unit
    parts = [
        [(size, n) for size, n in ((part, total // part), (total % part, 1)) if size and n]
        for total, part in ((space.channels, tile.channels), (space.rows, tile.rows), (space.k, k))
    ]
    for channels, times in parts[0]:
        for rows, more in parts[1]:
            for terms, most in parts[2]:
                yield Extent(channels, rows, terms), times * more * most


def _sizes(step: Step, extent: Extent) -> tuple[int, int, int]:
    """Return N, K and M of a tile's matrix product."""
    space = step.space
    return extent.channels, extent.k * space.k_unit, extent.rows * space.columns


def model(device: Device, arithmetic: str | Arithmetic) -> Model:
    """Return the cycle model of an arithmetic, by name or as it is, on a device."""
    return Model(device, arithmetics.get(arithmetic))
