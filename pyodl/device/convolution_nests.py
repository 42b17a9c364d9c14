"""The loop nests of what a convolution does besides matrix products (TrainLib, CHW).

im2row, the transposition of weights, and the loops of direct and depthwise convolutions, as the
firmware has them: with tests for padding inside the loops, which keeps them from being hardware
loops, and with every core doing all channels of a depthwise convolution's gradients.
"""

from dataclasses import replace
from typing import NamedTuple

from pyodl.device.loops import Code, Loop, Nest
from pyodl.device.matmul_nests import CALL, Form, block
from pyodl.primitives._geometry import Convolution

__all__ = [
    "Extent",
    "block_transpose",
    "depthwise_forward",
    "depthwise_input_grad",
    "depthwise_weight_grad",
    "direct_forward",
    "direct_input_grad",
    "direct_weight_grad",
    "im2row",
    "pad",
    "spread_im2row",
    "transpose",
    "weight_grad_im2row",
    "weight_grad_pad",
]

_SHORTEST_DIVISION = 3  # cycles; one more for every leading zero of the divisor


class Extent(NamedTuple):
    """How much of a step a tile computes: what `pyodl.device.steps.Space` counts.

    Parameters
    ----------
    channels : int
        Channels of the output; output channels of a weight gradient.
    rows : int
        Rows of the output; input channels of a weight gradient.
    k : int
        Units of the sum: input channels, or output channels in an input gradient, or output rows
        in a weight gradient.
    """

    channels: int
    rows: int
    k: int


def _multiply_accumulate(form: Form, share: float = 1) -> Code:
    """Return a scalar multiply-accumulate of two loaded values, done in a share of the cases."""
    return Code(
        loads=2 * share,
        fma=share,
        products=share * (form.step == "muladd"),
        fp=2 * share * form.widens,
        load_use=share * (not form.widens),
    )


def _tested(code: Code, inside: float, tests: int = 4) -> Code:
    """Return code behind so many tests for padding, which let a share of the cases in."""
    return replace(code, alu=code.alu + 2, skips=tests * inside, jumps=1 - inside)


def _store(form: Form) -> Code:
    return Code(stores=1, fp=form.widens)


def _reached(conv: Convolution) -> tuple[int, int]:
    """Return how many pairs of an output and a tap lie inside the image, by axis."""
    up, _, left, _ = conv.padding
    sizes, begins = (conv.height, conv.width), (up, left)
    rows, columns = (
        sum(
            0 <= out * conv.stride[axis] + tap - begins[axis] < sizes[axis]
            for out in range(conv.out_size[axis])
            for tap in range(conv.kernel[axis])
        )
        for axis in (0, 1)
    )
    return rows, columns


def _inside_forward(conv: Convolution) -> float:
    """Return the share of taps of an output pixel that lie inside the image."""
    rows, columns = _reached(conv)
    return rows * columns / (conv.pixels * conv.kernel[0] * conv.kernel[1])


def _inside_input_grad(conv: Convolution) -> float:
    """Return the share of taps of an input pixel that meet an output pixel."""
    rows, columns = _reached(conv)
    taps = conv.kernel[0] * conv.kernel[1]
    return rows * columns / (conv.height * conv.width * taps)


def im2row(conv: Convolution, tile: Extent, cores: int, core: int, form: Form) -> Nest:
    """Return im2row of an image for a forward tile; input channels are divided over cores.

    16-bit elements are moved in pairs along the kernel's row, and the odd column by itself.
    """
    (height, width), lanes = conv.kernel, form.lanes
    one = Code(loads=1, stores=1, load_use=1)
    pair = Code(loads=1, stores=1, misaligned=1) if lanes > 1 else one  # begins at any element
    if any(conv.padding):
        inside = _inside_forward(conv)
        one = _tested(Code(loads=inside, stores=1, load_use=inside), inside)
        pair = replace(pair, alu=2, skips=2 + 2 * lanes) if lanes > 1 else one  # two sets of tests
    passes: list[Code | Loop] = [Loop(height, (Code(alu=2), Loop(width // lanes, (pair,))))]
    if width % lanes:
        passes.append(Loop(height, (replace(one, alu=one.alu + 2),)))
    pixel = Loop(block(tile.k, cores, core), (Code(alu=4), *passes))
    return CALL, Loop(tile.rows * conv.out_size[1], (pixel,))


def weight_grad_im2row(conv: Convolution, tile: Extent, cores: int, core: int, form: Form) -> Nest:
    """Return im2row for a tile of the weight gradient, which has input channels as its rows."""
    return im2row(conv, Extent(tile.channels, tile.k, tile.rows), cores, core, form)


def spread_im2row(conv: Convolution, tile: Extent, cores: int, core: int, form: Form) -> Nest:
    """Return im2row of an output gradient for an input tile, element by element.

    Output channels are divided over cores.
    """
    inside = _inside_input_grad(conv)
    one = _tested(Code(loads=inside, stores=1, load_use=inside), inside)
    row = Loop(conv.kernel[0], (Code(alu=3), Loop(conv.kernel[1], (one,))))
    pixel = Loop(block(tile.k, cores, core), (Code(alu=5), row))
    return CALL, Loop(tile.rows * conv.width, (pixel,))


def block_transpose(conv: Convolution, tile: Extent, cores: int, core: int, form: Form) -> Nest:
    """Return the weights' transposition; output channels are divided over cores."""
    move = Loop(conv.kernel[0] * conv.kernel[1], (Code(loads=1, stores=1, load_use=1),))
    own = block(tile.k, cores, core)
    return CALL, Loop(own, (Loop(tile.channels, (Code(alu=2), move)),))


def transpose(conv: None, tile: Extent, cores: int, core: int, form: Form) -> Nest:
    """Return the transposition of a pointwise convolution's weights, element by element."""
    move = Code(loads=1, stores=1, load_use=1)
    return CALL, Loop(block(tile.channels, cores, core), (Code(alu=2), Loop(tile.k, (move,))))


def _rows_read(conv: Convolution, rows: float) -> float:
    """Return the padded rows that output rows read."""
    return (rows - 1) * conv.stride[0] + conv.kernel[0]


def pad(conv: Convolution, tile: Extent, cores: int, core: int, form: Form) -> Nest:
    """Return the copy of an image into a padded one, which every core does as a whole."""
    height, width = conv.padded
    inside = conv.height * conv.width / (height * width)
    one = _tested(Code(loads=inside, stores=1, load_use=inside), inside)
    rows = Loop(_rows_read(conv, tile.rows), (Code(alu=2), Loop(width, (one,))))
    return CALL, Loop(tile.channels, (rows,))


def weight_grad_pad(conv: Convolution, tile: Extent, cores: int, core: int, form: Form) -> Nest:
    """Return `pad` for all rows of a tile's channels."""
    return pad(conv, Extent(tile.channels, conv.out_size[0], 1), cores, core, form)


def depthwise_forward(conv: Convolution, tile: Extent, cores: int, core: int, form: Form) -> Nest:
    """Return a depthwise convolution of a padded image; channels are divided over cores."""
    row = Loop(conv.kernel[1], (_multiply_accumulate(form),))
    pixel = (Code(alu=3), Loop(conv.kernel[0], (Code(alu=1), row)), _store(form))
    image = Loop(tile.rows, (Loop(conv.out_size[1], pixel),))
    return CALL, Loop(block(tile.channels, cores, core), (image,))


def depthwise_weight_grad(
    conv: Convolution, tile: Extent, cores: int, core: int, form: Form
) -> Nest:
    """Return a depthwise weight gradient, which every core computes as a whole."""
    height, width = conv.out_size
    row = Loop(width, (_multiply_accumulate(form),))
    tap = (Code(alu=3), Loop(height, (Code(alu=2), row)), _store(form))
    taps = Loop(conv.kernel[0], (Loop(conv.kernel[1], tap),))
    return CALL, Loop(tile.channels, (taps,))


def depthwise_input_grad(
    conv: Convolution, tile: Extent, cores: int, core: int, form: Form
) -> Nest:
    """Return the gradient of a padded image, which every core computes as a whole."""
    (height, width), (out_height, out_width) = conv.padded, conv.out_size
    inside = min(1.0, out_height * out_width / (height * width))
    tap = _tested(_multiply_accumulate(form, inside), inside)
    row = Loop(conv.kernel[0], (Code(alu=3), Loop(conv.kernel[1], (tap,))))
    pixel = (Code(alu=3), row, _store(form))
    rows = tile.rows * height / conv.height
    return CALL, Loop(tile.channels, (Loop(rows, (Loop(width, pixel),)),))


def direct_forward(conv: Convolution, tile: Extent, cores: int, core: int, form: Form) -> Nest:
    """Return the direct loops; output channels are divided over cores."""
    row = Loop(conv.kernel[0], (Code(alu=2), Loop(conv.kernel[1], (_term(conv, form),))))
    pixel = (Code(alu=3), Loop(tile.k, (Code(alu=2), row)), _store(form))
    image = Loop(tile.rows, (Loop(conv.out_size[1], pixel),))
    return CALL, Loop(block(tile.channels, cores, core), (image,))


def direct_weight_grad(conv: Convolution, tile: Extent, cores: int, core: int, form: Form) -> Nest:
    """Return the direct weight gradient; output channels are divided over cores."""
    rows = Loop(tile.k, (Code(alu=2), Loop(conv.out_size[1], (_term(conv, form),))))
    channels = Loop(tile.rows, (Code(alu=3), rows, _store(form)))
    taps = Loop(conv.kernel[0], (Loop(conv.kernel[1], (channels,)),))
    return CALL, Loop(block(tile.channels, cores, core), (taps,))


def _term(conv: Convolution, form: Form) -> Code:
    """Return a product of the direct loops, tested where there is padding."""
    if not any(conv.padding):
        return _multiply_accumulate(form)
    inside = _inside_forward(conv)
    return _tested(_multiply_accumulate(form, inside), inside)


def direct_input_grad(conv: Convolution, tile: Extent, cores: int, core: int, form: Form) -> Nest:
    """Return the direct input gradient; input channels are divided over cores.

    With a stride or padding the firmware divides by the stride for every tap, and goes through a
    float where the accumulator has 16 bits.
    """
    inside = _inside_input_grad(conv)
    tap, row = _tested(_multiply_accumulate(form, inside), inside), Code(alu=3)
    if max(conv.stride) > 1 or any(conv.padding):
        down, across = (2 * (_SHORTEST_DIVISION + 32 - s.bit_length() - 1) for s in conv.stride)
        row = Code(alu=6, busy=down)  # quotient and remainder
        half = form.bytes == 2
        tap = Code(
            loads=1 + inside,
            fma=inside,
            fp=half * (1 + (1 if form.widens else 3) * inside),  # and back to 16 bits each time
            alu=5,
            skips=3 * inside,
            jumps=1 - inside,
            load_use=inside,
            busy=across,
        )
    rows = Loop(conv.kernel[0], (row, Loop(conv.kernel[1], (tap,))))
    pixel = (Code(alu=3), Loop(tile.k, (Code(alu=2), rows)), _store(form))
    image = Loop(tile.rows, (Loop(conv.width, pixel),))
    return CALL, Loop(block(tile.channels, cores, core), (image,))
