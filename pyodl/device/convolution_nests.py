"""The loop nests of what a convolution does besides matrix products (TrainLib, CHW).

im2row, the transposition of weights, and the loops of direct and depthwise convolutions, as the
firmware has them: with tests for padding inside the loops, which keeps them from being hardware
loops, and with every core doing all channels of a depthwise convolution's gradients.
"""

from dataclasses import replace

from pyodl.device.loops import Code, Loop, Nest
from pyodl.device.matmul_nests import CALL, Form, block
from pyodl.primitives._geometry import Convolution

__all__ = [
    "block_transpose_nest",
    "depthwise_forward_nest",
    "depthwise_input_grad_nest",
    "depthwise_weight_grad_nest",
    "direct_forward_nest",
    "direct_input_grad_nest",
    "direct_weight_grad_nest",
    "im2row_nest",
    "pad_nest",
    "spread_im2row_nest",
]

_SHORTEST_DIVISION = 3  # cycles; one more for every leading zero of the divisor


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


def inside_forward(conv: Convolution) -> float:
    """Return the share of taps of an output pixel that lie inside the image."""
    rows, columns = _reached(conv)
    return rows * columns / (conv.pixels * conv.kernel[0] * conv.kernel[1])


def inside_input_grad(conv: Convolution) -> float:
    """Return the share of taps of an input pixel that meet an output pixel."""
    rows, columns = _reached(conv)
    taps = conv.kernel[0] * conv.kernel[1]
    return rows * columns / (conv.height * conv.width * taps)


def im2row_nest(conv: Convolution, pixels: int, cores: int, core: int, form: Form) -> Nest:
    """Return im2row of an image for so many output pixels; channels are divided over cores.

    16-bit elements are moved in pairs along the kernel's row, and the odd column by itself.
    """
    (height, width), lanes = conv.kernel, form.lanes
    pair = Code(loads=1, stores=1, misaligned=1 if lanes > 1 else 0)  # at any element, in and out
    one = Code(loads=1, stores=1, load_use=1)
    if any(conv.padding):
        inside = inside_forward(conv)
        if lanes > 1:  # both elements have their own tests
            pair = replace(pair, alu=2, skips=2 + 2 * lanes)
        else:
            pair = _tested(replace(one, loads=inside, load_use=inside), inside)
        one = _tested(replace(one, loads=inside, load_use=inside), inside)
    elif lanes == 1:
        pair = one
    passes: list[Code | Loop] = [
        Loop(height, (Code(alu=2), Loop(width // lanes, (pair,)))),
    ]
    if width % lanes:
        passes.append(Loop(height, (replace(one, alu=one.alu + 2),)))
    return CALL, Loop(pixels, (Loop(block(conv.channels, cores, core), (Code(alu=4), *passes)),))


def spread_im2row_nest(conv: Convolution, pixels: int, cores: int, core: int) -> Nest:
    """Return im2row of an output gradient for so many input pixels, element by element."""
    inside = inside_input_grad(conv)
    one = _tested(Code(loads=inside, stores=1, load_use=inside), inside)
    row = Loop(conv.kernel[0], (Code(alu=3), Loop(conv.kernel[1], (one,))))
    own = block(conv.out_channels, cores, core)
    return CALL, Loop(pixels, (Loop(own, (Code(alu=5), row)),))


def block_transpose_nest(conv: Convolution, cores: int, core: int) -> Nest:
    """Return the weights' transposition; output channels are divided over cores."""
    move = Loop(conv.kernel[0] * conv.kernel[1], (Code(loads=1, stores=1, load_use=1),))
    own = block(conv.out_channels, cores, core)
    return CALL, Loop(own, (Loop(conv.channels, (Code(alu=2), move)),))


def pad_nest(conv: Convolution) -> Nest:
    """Return the copy of an image into a padded one, which every core does as a whole."""
    height, width = conv.padded
    inside = conv.height * conv.width / (height * width)
    one = _tested(Code(loads=inside, stores=1, load_use=inside), inside)
    rows = Loop(height, (Code(alu=2), Loop(width, (one,))))
    return CALL, Loop(conv.channels, (rows,))


def depthwise_forward_nest(conv: Convolution, cores: int, core: int, form: Form) -> Nest:
    """Return a depthwise convolution of a padded image; channels are divided over cores."""
    row = Loop(conv.kernel[1], (_multiply_accumulate(form),))
    pixel = (Code(alu=3), Loop(conv.kernel[0], (Code(alu=1), row)), _store(form))
    height, width = conv.out_size
    own = block(conv.channels, cores, core)
    return CALL, Loop(own, (Loop(height, (Loop(width, pixel),)),))


def depthwise_weight_grad_nest(conv: Convolution, form: Form) -> Nest:
    """Return a depthwise weight gradient, which every core computes as a whole."""
    height, width = conv.out_size
    row = Loop(width, (_multiply_accumulate(form),))
    tap = (Code(alu=3), Loop(height, (Code(alu=2), row)), _store(form))
    taps = Loop(conv.kernel[0], (Loop(conv.kernel[1], tap),))
    return CALL, Loop(conv.channels, (taps,))


def depthwise_input_grad_nest(conv: Convolution, form: Form) -> Nest:
    """Return the gradient of a padded image, which every core computes as a whole."""
    (height, width), (out_height, out_width) = conv.padded, conv.out_size
    inside = out_height * out_width / (height * width)
    tap = _tested(_multiply_accumulate(form, inside), inside)
    row = Loop(conv.kernel[0], (Code(alu=3), Loop(conv.kernel[1], (tap,))))
    pixel = (Code(alu=3), row, _store(form))
    return CALL, Loop(conv.channels, (Loop(height, (Loop(width, pixel),)),))


def direct_forward_nest(conv: Convolution, cores: int, core: int, form: Form) -> Nest:
    """Return the direct loops; output channels are divided over cores."""
    tap = _multiply_accumulate(form)
    if any(conv.padding):
        inside = inside_forward(conv)
        tap = _tested(_multiply_accumulate(form, inside), inside)
    row = Loop(conv.kernel[0], (Code(alu=2), Loop(conv.kernel[1], (tap,))))
    pixel = (Code(alu=3), Loop(conv.channels, (Code(alu=2), row)), _store(form))
    height, width = conv.out_size
    own = block(conv.out_channels, cores, core)
    return CALL, Loop(own, (Loop(height, (Loop(width, pixel),)),))


def direct_weight_grad_nest(conv: Convolution, cores: int, core: int, form: Form) -> Nest:
    """Return the direct weight gradient; output channels are divided over cores."""
    term = _multiply_accumulate(form)
    if any(conv.padding):
        inside = inside_forward(conv)
        term = _tested(_multiply_accumulate(form, inside), inside)
    height, width = conv.out_size
    rows = Loop(height, (Code(alu=2), Loop(width, (term,))))
    channels = Loop(conv.channels, (Code(alu=3), rows, _store(form)))
    own = block(conv.out_channels, cores, core)
    return CALL, Loop(own, (Loop(conv.kernel[0], (Loop(conv.kernel[1], (channels,)),)),))


def direct_input_grad_nest(conv: Convolution, cores: int, core: int, form: Form) -> Nest:
    """Return the direct input gradient; input channels are divided over cores.

    With a stride or padding the firmware divides by the stride for every tap, and goes through a
    float where the accumulator has 16 bits.
    """
    inside = inside_input_grad(conv)
    tap, row = _tested(_multiply_accumulate(form, inside), inside), Code(alu=3)
    if max(conv.stride) > 1 or any(conv.padding):
        divided = [2 * (_SHORTEST_DIVISION - 1 + 32 - s.bit_length()) for s in conv.stride]
        row = Code(alu=6, busy=divided[0])  # quotient and remainder
        half = form.bytes == 2
        tap = Code(
            loads=1 + inside,
            fma=inside,
            fp=half * (1 + (2 if form.widens else 3) * inside),
            alu=5,
            skips=3 * inside,
            jumps=1 - inside,
            load_use=inside,
            busy=divided[1],
        )
    rows = Loop(conv.kernel[0], (row, Loop(conv.kernel[1], (tap,))))
    pixel = (Code(alu=3), Loop(conv.out_channels, (Code(alu=2), rows)), _store(form))
    own = block(conv.channels, cores, core)
    return CALL, Loop(own, (Loop(conv.height, (Loop(conv.width, pixel),)),))
