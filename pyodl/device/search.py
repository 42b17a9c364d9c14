"""The fastest kernel and tile of a step, by predicted cycles."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from pyodl._graph import Node
from pyodl.device._device import Device
from pyodl.device._orders import same_orders
from pyodl.device.cycles import Estimate, Model
from pyodl.device.steps import Matmul, Step
from pyodl.device.tiles import Tile, fitted, fitting, largest
from pyodl.device.tiles import plan as plan_tiles
from pyodl.primitives._orders import Region, matmul_regions, resolve

__all__ = ["BitClass", "Work", "bit_class", "estimates", "fastest", "named", "nameless"]

BitClass = tuple[Region, ...]


@lru_cache(maxsize=4096)
def bit_class(kernel: str, matmul: Matmul, cores: int) -> BitClass:
    """Return what a kernel leaves in the bits: the order in which each output is summed.

    Kernels that give equal results give equal bits for all operands.

    Parameters
    ----------
    kernel : str
    matmul : Matmul
        The whole product.
    cores : int

    Returns
    -------
    tuple of Region
        Neighbours with one order are one region.
    """
    n, k, m = matmul.n, matmul.k, matmul.m
    regions = matmul_regions(kernel, n, k, m, transpose_b=matmul.transpose_b, cores=cores)
    if len({region.order for region in regions}) == 1:
        return (Region((0, matmul.n), (0, matmul.m), regions[0].order),)
    return regions


def _distinct(step: Step, kernels: Sequence[str], cores: int) -> list[str]:
    """Return the kernels to try for a step: one of those that fall back to the same one."""
    if step.matmul is None:
        return []
    size = (step.matmul.n, step.matmul.k, step.matmul.m, cores)
    found: dict[str, str] = {}
    for kernel in kernels:
        found.setdefault(resolve(kernel, *size), kernel)
    return list(found.values())


def estimates(
    model: Model,
    step: Step,
    node: Node | None,
    kernels: Sequence[str],
    *,
    exhaustive: bool = False,
) -> Iterator[Estimate]:
    """Yield the cycles of a step for kernels, tiles, loop orders and one or two buffers.

    A tile in which a kernel would sum in another order than in the whole matrix is left out, so
    that bits depend on the kernel alone; so is a K that is cut.

    Parameters
    ----------
    model : Model
    step : Step
    node : Node or None
        The layer in its place.
    kernels : sequence of str
        Matmul kernels to try; a step without a matmul has none.
    exhaustive : bool
        Whether to try every tile of `pyodl.device.tiles.candidates`; else those that no other
        contains.

    Yields
    ------
    Estimate
    """
    device = model.device
    chosen = _distinct(step, kernels, device.cores)
    for buffers in (2, 1):
        find = fitting if exhaustive else _few
        for tile, outer in find(step, device, buffers=buffers):
            plan = fitted(step, device, tile, outer=outer, buffers=buffers)
            if step.matmul is None:
                yield model.estimate(plan, node)
                continue
            part = (tile.channels, tile.rows * step.space.columns)
            for kernel in chosen:
                if same_orders(kernel, step.matmul, part, device.cores):
                    same = replace(plan, kernel=kernel, same_orders=True)
                    yield model.estimate(same, node)


def _few(step: Step, device: Device, *, buffers: int) -> Iterator[tuple[Tile, str]]:
    """Yield the largest tiles, and of a whole step a quarter too: there the DMA can overlap."""
    space = step.space
    for tile, outer in largest(step, device, buffers=buffers):
        yield tile, outer
        if (tile.channels, tile.rows) == (space.channels, space.rows):
            yield replace(tile, channels=-(-tile.channels // 4)), outer
            yield replace(tile, rows=-(-tile.rows // 4)), outer


def fastest(
    model: Model,
    step: Step,
    node: Node | None,
    kernels: Sequence[str],
    *,
    exhaustive: bool = False,
) -> Estimate | None:
    """Return the fewest cycles of a step; of equals, the fewest bytes of DMA, then of L1.

    Parameters
    ----------
    model, step, node, kernels, exhaustive
        See `estimates`.

    Returns
    -------
    Estimate or None
        None if no tile fits L1 in which a kernel keeps its orders.
    """
    return min(
        estimates(model, step, node, kernels, exhaustive=exhaustive),
        key=lambda e: (e.cycles, e.plan.dma_bytes, e.plan.l1_bytes),
        default=None,
    )


class Work(NamedTuple):
    """A step without names, so that equal steps of several layers are searched once."""

    step: Step
    node: Node | None


def nameless(step: Step, node: Node | None) -> Work:
    """Return a step, and its layer in its place, without the names of layers and tensors."""
    operands = tuple(replace(operand, name="") for operand in step.operands)
    if node is not None:
        node = replace(node, layer=replace(node.layer, name="", inputs=()))
    return Work(replace(step, layer="", operands=operands), node)


def named(found: Estimate | None, step: Step, device: Device, kernel: str) -> Estimate:
    """Return what was found for a step without names as that of ``step``.

    Raises
    ------
    ValueError
        If nothing was found; the message names the layer, the step and by how many bytes.
    """
    if found is not None:
        return replace(found, plan=replace(found.plan, step=step))
    plan_tiles(step, device, kernel=kernel or None)  # raises if nothing fits L1
    raise ValueError(
        f"layer {step.layer!r}, {step.step}: in no tile that fits the {device.l1_bytes} bytes of "
        f"L1 of {device.name} does {kernel} sum in the orders that it has in the whole matrix"
    )
