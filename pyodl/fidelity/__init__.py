"""Which defects of the firmware a call meets on the device.

The firmware's primitives compute what they mean to compute for most shapes; for some they read or
write outside their tensors, let cores overwrite each other, or give a wrong result. pyodl does not
imitate any of that (docs/fidelity.md). `known_defects` says, before anything is flashed, which of
it a call would meet. The conditions are those of PULP-TrainLib at commit 7bfc7601.
"""

from collections.abc import Callable, Sequence
from typing import Any

from pyodl import primitives
from pyodl.fidelity import _convolution, _elementwise, _products
from pyodl.fidelity._call import Call, Defect, Found
from pyodl.primitives import _check as check

__all__ = ["Defect", "known_defects"]

_CONDITIONS: dict[str, Callable[[Call], Found]] = {
    "add": _elementwise.add,
    "conv2d_bias_grad": _convolution.bias_grad,
    "conv2d_forward": _convolution.forward,
    "conv2d_input_grad": _convolution.input_grad,
    "conv2d_weight_grad": _convolution.weight_grad,
    "im2col": _convolution.im2col,
    "im2row": _convolution.im2row,
    "instance_norm_forward": _elementwise.instance_norm_forward,
    "instance_norm_input_grad": _elementwise.instance_norm_input_grad,
    "l1_grad": _elementwise.l1_grad,
    "linear_forward": _products.linear_forward,
    "linear_input_grad": _products.linear_input_grad,
    "linear_weight_grad": _products.linear_weight_grad,
    "matmul": _products.matmul,
    "matvec": _products.matvec,
    "max_pool_backward": _elementwise.max_pool_backward,
    "pad": _elementwise.pad,
    "pointwise_forward": _products.pointwise_forward,
    "pointwise_input_grad": _products.pointwise_input_grad,
    "pointwise_weight_grad": _products.pointwise_weight_grad,
    "softmax_forward": _elementwise.softmax_forward,
}


def known_defects(
    primitive: str, shapes: Sequence[Sequence[int]], cores: int = 8, **options: Any
) -> tuple[Defect, ...]:
    """Return the defects that the firmware's version of a call has.

    Parameters
    ----------
    primitive : str
        Name of a function of `pyodl.primitives`.
    shapes : sequence of tuple of int
        Shapes of its arrays, in the order of its arguments; a bias counts where it is given.
    cores : int
        Cores of the device.
    **options
        The call's other arguments: ``kernel``, ``layout``, ``algorithm``, ``stride``, ``padding``,
        ``kernel_size``, ``input_size``, ``transpose_b``, ``exp``; those that do not matter here
        are passed over. ``bias=True`` says of a weight gradient that the layer has a bias, whose
        gradient the firmware computes in the same call; ``algorithm="vect_sum"`` says of `add`
        that the device uses ``vect_sum`` and not the residual layer.

    Returns
    -------
    tuple of Defect
        Empty if none is known.

    Raises
    ------
    TypeError, ValueError
        If there is no such primitive, or a shape or an option is none that it takes.

    Examples
    --------
    >>> from pyodl.fidelity import known_defects
    >>> known_defects("matmul", [(8, 8), (8, 8)], cores=4, kernel="m_simd_2x4")
    ()
    >>> [d.kind for d in known_defects("matmul", [(8, 8), (8, 8)], kernel="m_simd_2x4")]
    ['out-of-bounds', 'race', 'wrong result']
    """
    name = check.choice("primitive", primitive, primitives.__all__)
    cores = check.integer("cores", cores, 1)
    check.instance("shapes", shapes, Sequence, "a list of shapes")
    for i, shape in enumerate(shapes):
        check.instance(f"shapes[{i}]", shape, Sequence, "a tuple of integers")
    sizes = tuple(
        tuple(check.integer(f"shapes[{i}][{j}]", n, 1) for j, n in enumerate(shape))
        for i, shape in enumerate(shapes)
    )
    found = _CONDITIONS.get(name)
    if found is None:
        return ()
    # Steps of one call can meet the same defect; it is told once.
    return tuple(dict.fromkeys(found(Call(name, sizes, cores, options))))
