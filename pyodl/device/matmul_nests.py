"""The loop nests of the matmul kernels, from what a register tile loads and keeps.

Every kernel of the cluster walks the output in register tiles: so many rows by so many columns,
whose accumulators stay in registers while k runs. What one iteration over k loads, shuffles and
accumulates follows from the tile, from how B lies and from the arithmetic (TrainLib
``mm_*_fp16``; for FP32 the same tiles with one element per register).

Loads post-increment their pointers, which needs floats in the integer registers (Zfinx): so no
instruction is spent on addresses in the inner loop. Register spills are not modelled.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

from pyodl.arithmetic import Arithmetic
from pyodl.device.loops import Code, Loop, Nest
from pyodl.primitives._orders import resolve

__all__ = [
    "CALL",
    "REGISTER_TILES",
    "Form",
    "RegisterTile",
    "block",
    "form_of",
    "inner",
    "matmul_nest",
    "matvec_nest",
]


@dataclass(frozen=True)
class Form:
    """How an arithmetic looks in instructions.

    Parameters
    ----------
    lanes : int
        Elements of the storage format that one register holds and one instruction multiplies.
    step : {"fma", "muladd", "widen"}
        A fused multiply-add; a multiplication and an addition; or a conversion of both operands to
        FP32, and a fused multiply-add there, lane by lane.
    bytes : int
        Of one stored element.
    """

    lanes: int
    step: str
    bytes: int = 2

    @property
    def widens(self) -> bool:
        """Whether operands are converted to FP32."""
        return self.step == "widen"


_WRITTEN_FOR = 2  # lanes that the kernels use; more go unused


def form_of(arithmetic: Arithmetic, lanes: int) -> Form:
    """Return the form of an arithmetic on a device with so many lanes of its storage format."""
    size, lanes = arithmetic.storage.bits // 8, min(lanes, _WRITTEN_FOR)
    if arithmetic.storage.name == "float32":
        return Form(lanes, "fma", size)
    if arithmetic.accumulator.name == "float32":
        return Form(lanes, "widen", size)
    return Form(lanes, "muladd" if arithmetic.name.endswith("muladd") else "fma", size)


@dataclass(frozen=True)
class RegisterTile:
    """Rows by columns of the output whose accumulators stay in registers.

    Parameters
    ----------
    rows, columns : int
    vector : bool
        Whether operands are read ``Form.lanes`` at a time.
    split_sum : bool
        Whether lanes are summed into a further accumulator (``lanes-split`` of docs/numerics.md).
    """

    rows: int
    columns: int
    vector: bool
    split_sum: bool = False

    def lanes(self, form: Form) -> int:
        """Elements per register."""
        return form.lanes if self.vector else 1


@dataclass(frozen=True)
class _Kernel:
    """A register tile, and which dimension is divided over cores."""

    tile: RegisterTile
    split: str


_SCALAR = RegisterTile(1, 1, vector=False)
REGISTER_TILES = {
    "naive": _Kernel(_SCALAR, "N"),
    "naive_m": _Kernel(_SCALAR, "M"),
    "simd_2x4": _Kernel(RegisterTile(1, 2, vector=True, split_sum=True), "N"),
    "simd_4x8": _Kernel(RegisterTile(2, 4, vector=True), "N"),
    "m_simd_2x4": _Kernel(RegisterTile(1, 2, vector=True, split_sum=True), "M"),
    "m_simd_4x8": _Kernel(RegisterTile(2, 4, vector=True), "M"),
    "unroll_2x1": _Kernel(RegisterTile(2, 1, vector=False), "N"),
    "unroll_4x1": _Kernel(RegisterTile(4, 1, vector=False), "N"),
    "unroll_8x1": _Kernel(RegisterTile(8, 1, vector=False), "N"),
}
_MATVEC_ROWS = {"simd_2x1": 2, "simd_4x1": 4, "simd_8x1": 8}
CALL = Code(loads=7, alu=8)  # arguments from their struct, the core's first and last row


def block(size: int, cores: int, core: int) -> int:
    """Return how many of ``size`` a core has: ceil(size / cores), the last ones less."""
    each = -(-size // cores)
    return max(0, min((core + 1) * each, size) - core * each)


def inner(tile: RegisterTile, form: Form, k: int, m: int, *, transpose_b: bool) -> Code:
    """Return one iteration over k: what a register tile loads and accumulates.

    Parameters
    ----------
    tile : RegisterTile
    form : Form
    k, m : int
        Columns of A and of the output, whose rows begin in the middle of a word if they are odd.
    transpose_b : bool

    Returns
    -------
    Code
        For ``tile.rows * tile.columns * lanes`` multiply-accumulates.
    """
    rows, columns, lanes = tile.rows, tile.columns, tile.lanes(form)
    operands = rows + columns
    code = Code(loads=operands, load_use=float(operands == 2 and not form.widens))
    if lanes > 1:
        odd_k, odd_m = (k % lanes > 0) / 2, (m % lanes > 0) / 2
        crossing = operands * odd_k if transpose_b else rows * odd_k + columns * odd_m
        code = replace(code, misaligned=crossing)
    if form.widens:
        chains = rows * columns * (lanes if transpose_b else 1)
        code = replace(code, fp=operands * lanes, alu=operands * (lanes - 1))
        return _accumulate(code, rows * columns * lanes, chains, form)
    if lanes == 1 or transpose_b:
        return _accumulate(code, rows * columns, rows * columns, form)
    splats = replace(code, alu=rows * lanes)  # each element of A to all lanes
    return _accumulate(splats, rows * columns, rows * columns // lanes, form)


def _accumulate(code: Code, times: float, chains: int, form: Form) -> Code:
    products = times if form.step == "muladd" else 0
    return replace(code, fma=times, chains=chains, products=products)


def _left_k(tile: RegisterTile, form: Form, *, transpose_b: bool) -> Code:
    """Return what is done for a k that fills no register."""
    rows, columns, lanes = tile.rows, tile.columns, tile.lanes(form)
    size = rows * columns
    if form.widens:
        code = Code(loads=rows + columns, fp=rows + columns)
        return _accumulate(code, size, size, form)
    if not transpose_b:  # one element of A to all lanes
        code = Code(loads=rows + columns / lanes, alu=rows)
        return _accumulate(code, size / lanes, size // lanes, form)
    if tile.split_sum:  # packed, multiplied at once, and each lane added
        code = Code(loads=rows + columns, alu=rows + columns / lanes, fp=size)
        return _accumulate(code, size / lanes, size // lanes, form)
    code = Code(loads=rows + columns, alu=size)  # into lane 0: inserted again
    return _accumulate(code, size, size, form)


def _begin(tile: RegisterTile, form: Form, *, transpose_b: bool) -> Code:
    """Return the zeros of the accumulators and the pointers."""
    chains = inner(tile, form, 0, 0, transpose_b=transpose_b).chains
    return Code(alu=chains + tile.rows + (tile.columns if transpose_b else 1))


def _end(tile: RegisterTile, form: Form, m: int, *, transpose_b: bool) -> Code:
    """Return the sums of lanes, the rounding to storage and the stores."""
    size, lanes = tile.rows * tile.columns, tile.lanes(form)
    packed = size if tile.columns < lanes else size // lanes  # a column alone is stored by itself
    code = Code(
        stores=packed, misaligned=packed * (lanes > 1 and packed < size and m % lanes > 0) / 2
    )
    fp, alu = 0, 0
    if transpose_b and lanes > 1:
        fp += size * (lanes - 1) + size * tile.split_sum
        alu += size * (lanes - 1) * (not form.widens) + (packed < size) * packed
    if form.widens:
        fp += size
        alu += (packed < size and not transpose_b) * packed
    return replace(code, fp=fp, alu=alu)


def _patch(
    outer: int, middle: int, tile: RegisterTile, form: Form, k: int, m: int, *, transpose_b: bool
) -> Loop:
    """Return ``outer`` by ``middle`` register tiles."""
    lanes = tile.lanes(form)
    begin, once, left, end = _parts(tile, form, k % lanes, m % lanes, transpose_b)
    leftover = (Loop(k % lanes, (left,)),) if k % lanes else ()
    body = (begin, Loop(k // lanes, (once,)), *leftover, end)
    return Loop(outer, (Loop(middle, body),))


@lru_cache(maxsize=1024)
def _parts(
    tile: RegisterTile, form: Form, odd_k: int, odd_m: int, transpose_b: bool
) -> tuple[Code, Code, Code, Code]:
    """Return what is done before k, for every k, for a k that is left over, and after k."""
    return (
        _begin(tile, form, transpose_b=transpose_b),
        inner(tile, form, odd_k, odd_m, transpose_b=transpose_b),
        _left_k(tile, form, transpose_b=transpose_b),
        _end(tile, form, odd_m, transpose_b=transpose_b),
    )


def matmul_nest(
    kernel: str, n: int, k: int, m: int, transpose_b: bool, cores: int, core: int, form: Form
) -> Nest:
    """Return what one core runs of a matrix product (N, K) x (K, M).

    Parameters
    ----------
    kernel : str
        A matmul kernel; the one that it falls back to is taken, see `pyodl.primitives.matmul`.
    n, k, m : int
    transpose_b : bool
        Whether B is stored (M, K).
    cores, core : int
        Cores of the cluster, and which of them, from 0.
    form : Form

    Returns
    -------
    tuple of Code and Loop
    """
    kernel = resolve(kernel, n, k, m, cores)
    found = REGISTER_TILES[kernel]
    patches = _by_rows if found.split == "N" else _by_columns
    return (
        CALL,
        *(
            _patch(outer, middle, tile, form, k, m, transpose_b=transpose_b)
            for outer, middle, tile in patches(found.tile, n, m, cores, core)
            if outer and middle
        ),
    )


_Patches = list[tuple[int, int, RegisterTile]]


def _by_rows(tile: RegisterTile, n: int, m: int, cores: int, core: int) -> _Patches:
    """Divide rows over cores; what is left of columns, and of rows, is done element by element."""
    rows, columns = tile.rows, tile.columns
    if rows > 2:  # whole groups are divided; the last rows of all, by columns
        groups = -(-block(n - n % rows, cores, core) // rows)
        return [(groups, m, tile), (block(m, cores, core), n % rows, _SCALAR)]
    own = block(n, cores, core)
    return [
        (own // rows, m // columns, tile),
        (own - own % rows, m % columns, _SCALAR),
        (own % rows, m // columns, replace(tile, rows=1)),
        (own % rows, m % columns, _SCALAR),
    ]


def _by_columns(tile: RegisterTile, n: int, m: int, cores: int, core: int) -> _Patches:
    """Divide whole groups of columns over cores; what is left of columns, by rows."""
    rows, columns = tile.rows, tile.columns
    groups = -(-block(m - m % columns, cores, core) // columns)
    return [
        (groups, n // rows, tile),
        (groups, columns * (n % rows), _SCALAR),
        (block(n, cores, core), m % columns, _SCALAR),
    ]


def matvec_nest(kernel: str, n: int, k: int, cores: int, core: int, form: Form) -> Nest:
    """Return what one core runs of a matrix-vector product (N, K) x (K,).

    Parameters
    ----------
    kernel : {"simd_2x1", "simd_4x1", "simd_8x1"}
        A core with fewer rows takes the next smaller, and ``naive`` for a single row.
    n, k, cores, core, form
        See `matmul_nest`.

    Returns
    -------
    tuple of Code and Loop
    """
    own = block(n, cores, core)
    if own < 2:
        tiles: _Patches = [(own, 1, _SCALAR)]
    else:
        rows = max(r for r in _MATVEC_ROWS.values() if r <= min(own, _MATVEC_ROWS[kernel]))
        tile = RegisterTile(rows, 1, vector=True)
        tiles = [(own // rows, 1, tile), (own % rows, 1, replace(tile, rows=1))]
    return (
        CALL,
        *(
            _patch(outer, middle, tile, form, k, 1, transpose_b=True)
            for outer, middle, tile in tiles
            if outer
        ),
    )
