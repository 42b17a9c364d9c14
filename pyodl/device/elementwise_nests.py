"""The loop nests of everything that is neither a matrix product nor a convolution (TrainLib).

The firmware handles one element after the other here, in 16 bits too.
"""

from dataclasses import replace

from pyodl.device.loops import Code, Loop, Nest
from pyodl.device.matmul_nests import CALL, Form, block

__all__ = [
    "ELEMENTWISE",
    "average_nest",
    "elementwise_nest",
    "loss_nest",
    "maximum_nest",
    "norm_nest",
    "row_sums_nest",
]

_DIVISION = Code(fp=1, busy=18)  # up to 19 cycles by the manual; the most is taken
_EXPF = Code(alu=100)  # assumed: a call of the C library's expf or logf

# Per element, before conversions: operands that are loaded, arithmetic, one result that is stored.
ELEMENTWISE = {
    "copy": Code(loads=1, stores=1, load_use=1),
    "add": Code(loads=2, fp=1, stores=1, load_use=1),
    "add_bias": Code(loads=1, fp=1, stores=1, load_use=1),
    "relu_forward": Code(loads=1, fp=1, skips=0.5, jumps=0.5, stores=1, load_use=1),
    "relu_backward": Code(loads=2, fp=1, skips=0.5, jumps=0.5, stores=1, load_use=1),
    "leakyrelu_forward": Code(loads=1, fp=1.5, skips=0.5, jumps=0.5, stores=1, load_use=1),
    "leakyrelu_backward": Code(loads=2, fp=1.5, skips=0.5, jumps=0.5, stores=1, load_use=1),
    "sigmoid_forward": Code(loads=1, fp=2, alu=100, busy=18, stores=1, load_use=1),
    "sigmoid_backward": Code(loads=2, fp=3, stores=1, load_use=1),
    "sgd": Code(loads=2, fma=1, stores=1, load_use=1),
}


def _widened(code: Code, form: Form) -> Code:
    """Return code whose operands are converted to FP32 and whose results are converted back."""
    if not form.widens or not code.floating:
        return code
    return replace(code, fp=code.fp + code.loads + code.stores, load_use=0)


def elementwise_nest(kind: str, size: int, cores: int, core: int, form: Form) -> Nest:
    """Return a loop over the elements of a tensor, which are divided over cores.

    Parameters
    ----------
    kind : str
        One of `ELEMENTWISE`.
    size : int
        Elements of the output.
    cores, core : int
    form : Form

    Returns
    -------
    tuple of Code and Loop
    """
    code = _widened(ELEMENTWISE[kind], form)
    if form.step == "muladd":
        code = replace(code, products=code.fma)
    return CALL, Loop(block(size, cores, core), (code,))


def row_sums_nest(rows: int, length: int, cores: int, core: int, form: Form) -> Nest:
    """Return the sum of each row: the gradient of a bias."""
    term = _widened(Code(loads=1, fma=1, load_use=1), form)
    row = (Code(alu=2), Loop(length, (term,)), Code(stores=1, fp=form.widens))
    return CALL, Loop(block(rows, cores, core), row)


def average_nest(
    channels: int,
    windows: int,
    window: tuple[int, int],
    size: int,
    backward: bool,
    cores: int,
    core: int,
    form: Form,
) -> Nest:
    """Return average pooling: so many windows a channel; channels are divided over cores.

    Backward, the ``size`` elements of a channel's gradient are cleared first, and every window
    divides for each of its elements.
    """
    own = block(channels, cores, core)
    if not backward:
        term = _widened(Code(loads=1, fma=1, load_use=1), form)
        row = Loop(window[0], (Code(alu=2), Loop(window[1], (term,))))
        end = replace(_DIVISION, stores=1, fp=1 + form.widens)
        return CALL, Loop(own, (Loop(windows, (Code(alu=4), row, end)),))
    term = _widened(Code(loads=2, fp=2, stores=1, busy=18, load_use=1), form)
    row = Loop(window[0], (Code(alu=2), Loop(window[1], (term,))))
    clear = Loop(own * size, (Code(stores=1),))
    return CALL, clear, Loop(own, (Loop(windows, (Code(alu=4), row)),))


def maximum_nest(
    channels: int,
    windows: int,
    window: tuple[int, int],
    size: int,
    backward: bool,
    cores: int,
    core: int,
    form: Form,
) -> Nest:
    """Return max pooling, as `average_nest`; backward finds the maximum, then adds everywhere."""
    own = block(channels, cores, core)
    look = Code(loads=1, fp=1, skips=0.5, jumps=0.5, load_use=1, stores=backward)
    row = Loop(window[0], (Code(alu=2), Loop(window[1], (look,))))
    if not backward:
        return CALL, Loop(own, (Loop(windows, (Code(alu=4, loads=1), row, Code(stores=1))),))
    add = _widened(Code(loads=3, fma=1, fp=1, stores=1, load_use=1), form)  # the mask is a byte
    spread = Loop(window[0], (Code(alu=2), Loop(window[1], (add,))))
    clear = Loop(own * size, (Code(stores=1),))
    return CALL, clear, Loop(own, (Loop(windows, (Code(alu=4, loads=1), row, spread)),))


_NORM = {  # passes over a channel: what each does for one element
    "forward": (
        Code(loads=1, fma=1, load_use=1),
        Code(loads=1, fma=1, load_use=1),
        Code(loads=1, fp=1, fma=1, stores=1, load_use=1),
    ),
    "weight_grad": (Code(loads=2, fp=1, fma=1, load_use=1), Code(loads=1, fma=1, load_use=1)),
    "input_grad": (
        Code(loads=2, fp=1, fma=2, chains=2, load_use=1),
        Code(loads=2, fp=4, fma=2, stores=1, busy=36, load_use=1),
    ),
}


def norm_nest(step: str, channels: int, size: int, cores: int, core: int, form: Form) -> Nest:
    """Return a step of instance normalisation; channels of ``size`` are divided over cores."""
    passes = [Loop(size, (_widened(code, form),)) for code in _NORM[step]]
    ends = [replace(_DIVISION, alu=4, fp=4, stores=2) for _ in passes]
    body = [part for pair in zip(passes, ends, strict=True) for part in pair]
    return CALL, Loop(block(channels, cores, core), tuple(body))


def loss_nest(size: int, cores: int, core: int, form: Form) -> Nest:
    """Return cross-entropy and its gradient, which core 0 computes: three passes, two of expf."""
    if core:
        return (CALL,)
    look = Code(loads=1, fp=2, skips=0.5, jumps=0.5, load_use=1)
    exp = replace(_EXPF, loads=1, fp=3)
    grad = replace(_EXPF, loads=2, fp=4, stores=1)
    return CALL, *(Loop(size, (code,)) for code in (look, exp, grad)), _EXPF
