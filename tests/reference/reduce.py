"""Sums of products in the orders of the matmul kernels, and which kernel runs which order."""

import numpy as np

from .arith import ARITHMETICS

PRODUCT, SEQUENTIAL, LANES_SPLIT, LANES_INTO_0 = ["product", "sequential", "split", "into-0"]


def chain(ar, factors, shape, start=0.0):
    """acc = start; acc = acc + a * b for each pair of arrays in `factors`."""
    acc = np.full(shape, start, np.float64)
    for a, b in factors:
        acc = ar.fma(a, b, acc)
    return acc


def total(ar, terms, shape):
    """acc = +0; acc = acc + t for each array in `terms`."""
    acc = np.zeros(shape)
    for t in terms:
        acc = ar.add(acc, t)
    return acc


def maximum(values, start):
    """`start`, replaced by each value that compares greater: a leading NaN stays, others pass."""
    largest = start
    for v in values:
        largest = np.where(v > largest, v, largest)
    return largest


def reduce_in(order, ar, left, right, shape, start=0.0):
    """Sum left[k] * right[k] over k in one of the four orders; the arrays broadcast to `shape`.

    The accumulator, or that of lane 0, starts from `start`.
    """
    n = len(left)
    pairs = list(zip(left, right, strict=True))
    if order == PRODUCT:
        return np.broadcast_to(ar.mul(left[0], right[0]), shape)
    if order == SEQUENTIAL:
        return chain(ar, pairs, shape, start)
    even, last = n & ~1, pairs[n & ~1 :]
    lane0 = pairs[0:even:2] + (last if order == LANES_INTO_0 else [])
    lanes = ar.add(chain(ar, lane0, shape, start), chain(ar, pairs[1:even:2], shape))
    if order == LANES_INTO_0:
        return lanes
    # The last product of an odd K is rounded in an accumulator of its own, and that is added to +0:
    # one that underflows to -0 becomes +0. An even K adds the lanes to +0.
    rest = ar.add(0.0, chain(ar, last, shape))
    return ar.add(rest, lanes)


def floor_to(multiple, x):
    return x - x % multiple


def falls_back(kernel, n, k, m, cores):
    """The kernel that runs instead of `kernel` for these sizes, or `kernel` itself."""
    small = {
        "naive": (False, None),
        "naive_m": (False, None),
        "simd_2x4": (m < 2 or k < 2, "naive"),
        "simd_4x8": (
            floor_to(4, m) < 4 or floor_to(2, k) < 2 or floor_to(2, n) // cores < 2,
            "simd_2x4",
        ),
        "m_simd_2x4": (floor_to(2, m) < 2 or k < 2, "naive"),
        "m_simd_4x8": (
            floor_to(4, m) // cores < 4 or floor_to(2, k) < 2 or floor_to(2, n) < 2,
            "m_simd_2x4",
        ),
        "unroll_2x1": (n // cores < 2, "naive"),
        "unroll_4x1": (floor_to(4, n) // cores < 4, "unroll_2x1"),
        "unroll_8x1": (floor_to(8, n) // cores < 8, "unroll_4x1"),
    }
    falls, other = small[kernel]
    return other if falls else kernel


KERNELS = [
    "naive",
    "naive_m",
    "simd_2x4",
    "simd_4x8",
    "m_simd_2x4",
    "m_simd_4x8",
    "unroll_2x1",
    "unroll_4x1",
    "unroll_8x1",
]


def resolve(kernel, n, k, m, cores):
    """Follow the fall-backs to the kernel that really runs."""
    while (other := falls_back(kernel, n, k, m, cores)) != kernel:
        kernel = other
    return kernel


def orders(kernel, n, k, m, transpose_b, cores):
    """(n, m) array of the order that each output element is reduced in."""
    kernel = resolve(kernel, n, k, m, cores)
    result = np.full((n, m), SEQUENTIAL, dtype=object)
    if kernel == "naive" and k == 1:
        result[:] = PRODUCT
    if not transpose_b or "simd" not in kernel:
        return result
    if kernel.endswith("2x4"):
        result[:, : floor_to(2, m)] = LANES_SPLIT
    else:
        result[:, : floor_to(4, m)] = LANES_INTO_0
    if kernel == "m_simd_4x8" and n % 2:
        result[-1, :] = SEQUENTIAL
    return result


def part_of(tile, k):
    """Terms of K in one tile: all of them unless the tile says less."""
    return k if tile is None or len(tile) < 3 or tile[2] is None else min(tile[2], k)


def matmul_values(ar, a, b, transpose_b, kernel, cores, tile=None):
    """C = A x B on float64 values; the result is in the accumulator format, not yet stored.

    A tile changes nothing but where it cuts K: then every part is stored, and read again as the
    start of the next. An output keeps the order that it has with the whole K; lanes are counted
    from the beginning of a part.
    """
    n, k = a.shape
    m = b.shape[0] if transpose_b else b.shape[1]
    left = a.T[:, :, None]
    right = (b.T if transpose_b else b)[:, None, :]
    which = orders(kernel, n, k, m, transpose_b, cores)
    result, part = np.zeros((n, m)), part_of(tile, k)
    for first in range(0, k, part):
        start = ar.stored(result)
        terms = left[first : first + part], right[first : first + part]
        for order in set(which.flat):
            chosen = which == order
            result[chosen] = reduce_in(order, ar, *terms, (n, m), start)[chosen]
    return result


def matmul(
    a,
    b,
    *,
    transpose_b=False,
    kernel="naive",
    arithmetic="fp16-fp32acc",
    cores=8,
    num_threads=None,
    tile=None,
):
    ar = ARITHMETICS[arithmetic]
    return ar.store(matmul_values(ar, ar.load(a), ar.load(b), transpose_b, kernel, cores, tile))


def blocks(size, cores):
    """The slices of a dimension that the cores take; late cores may get an empty one."""
    block = -(-size // cores)
    return [slice(min(c * block, size), min((c + 1) * block, size)) for c in range(cores)]


MATVEC_KERNELS = ["simd_2x1", "simd_4x1", "simd_8x1"]


def matvec(a, v, *, kernel="simd_2x1", arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    ar = ARITHMETICS[arithmetic]
    assert kernel in MATVEC_KERNELS
    a, v = ar.load(a), ar.load(v)
    result = np.empty(len(a))
    for rows in blocks(len(a), cores):
        count = rows.stop - rows.start
        naive = PRODUCT if len(v) == 1 else SEQUENTIAL
        order = naive if count < 2 else LANES_INTO_0
        result[rows] = reduce_in(order, ar, a[rows].T, v[:, None], (count,))
    return ar.store(result)
