"""Run a primitive of pyodl and of the reference; the bits, shapes and dtypes must be equal."""

import numpy as np
import reference

from pyodl import primitives


def bits(x):
    x = np.ascontiguousarray(x)
    return x.view({2: np.uint16, 4: np.uint32}[x.dtype.itemsize])


def assert_same(got, want, what=""):
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype, f"{what}: {got.dtype}, not {want.dtype}"
    assert got.shape == want.shape, f"{what}: {got.shape}, not {want.shape}"
    if np.array_equal(bits(got), bits(want)):
        return
    where = np.argwhere(np.atleast_1d(bits(got) != bits(want)))
    first = tuple(where[0]) if got.ndim else ()
    raise AssertionError(
        f"{what}: {len(where)} of {got.size} differ, first at {tuple(map(int, first))}: "
        f"0x{int(bits(got)[first]):x}, not 0x{int(bits(want)[first]):x}"
    )


def agree(name, *args, num_threads=None, **keywords):
    """Both implementations give the same bits, and pyodl leaves its inputs alone. -> the result."""
    arrays = [a for a in (*args, *keywords.values()) if isinstance(a, np.ndarray)]
    before = [a.copy() for a in arrays]
    want = getattr(reference, name)(*args, **keywords)
    own = {} if num_threads is None else {"num_threads": num_threads}
    got = getattr(primitives, name)(*args, **keywords, **own)
    for a, b in zip(arrays, before, strict=True):
        assert np.array_equal(bits(a), bits(b)), f"{name} changed an input"
    assert isinstance(got, tuple) == isinstance(want, tuple)
    pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
    for i, (g, w) in enumerate(pairs):
        assert_same(g, w, f"{name} [{i}]" if isinstance(want, tuple) else name)
        assert not any(np.may_share_memory(g, a) and g is not a for a in arrays)
    return got
