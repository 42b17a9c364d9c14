"""Tables and proof of include/transcendental.h.

``tables`` prints the constants of the header. ``check`` compares expf and logf of the kernels with
the correctly rounded value for every binary32 (or every
``--step``-th one). NumPy's binary64 function decides where it is at least 2**-48 away from a tie
between two binary32 numbers, far more than its error; mpmath decides the rest.

usage: transcendental.py tables | check [--step N]
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import numpy as np

mpmath.mp.prec = 200
EXP_BITS = 5  # 2**(i/32)
LOG_BITS = 5  # 32 intervals of [0.703125, 1.40625)
LOG_START = 0x3F340000  # bits of 0.703125: 1.0 lies on the border of two intervals
LOG_GRID = 43  # high parts are multiples of 2**-43, so that their sums are exact
CHUNK = 1 << 22


def split(value: Any, grid: int | None = None) -> tuple[float, float]:
    """Return ``value`` as a binary64, a multiple of 2**-grid if asked for, and the remainder."""
    high = float(value) if grid is None else float(mpmath.nint(value * 2**grid) / 2**grid)
    return high, float(value - high)


def print_tables() -> None:
    """Print the initialisers and constants of the header."""
    print("exp_table: 2^(i/32), high and low")
    for i in range(1 << EXP_BITS):
        high, low = split(mpmath.mpf(2) ** (mpmath.mpf(i) / (1 << EXP_BITS)))
        print(f"    {{{high.hex()}, {low.hex()}}},")
    print("32/ln2:", float((1 << EXP_BITS) / mpmath.log(2)).hex())
    print("ln2/32 on 2^-45:", *(x.hex() for x in split(mpmath.log(2) / (1 << EXP_BITS), 45)))
    print("log_table: c, -log(c) high and low")
    for i in range(1 << LOG_BITS):
        shift = 23 - LOG_BITS
        edges = np.array([LOG_START + (i << shift), LOG_START + ((i + 1) << shift)], np.uint32)
        low_edge, high_edge = (float(x) for x in edges.view(np.float32))
        c = 1.0 if 1.0 in (low_edge, high_edge) else round(512 / (low_edge + high_edge)) / 256
        high, low = split(-mpmath.log(c), LOG_GRID)
        print(f"    {{{c.hex()}, {high.hex()}, {low.hex()}}},")
    print("ln2 on 2^-43:", *(x.hex() for x in split(mpmath.log(2), LOG_GRID)))


def chunks(step: int) -> Iterator[np.ndarray[Any, Any]]:
    """Yield all binary32 numbers, or every ``step``-th one, by their bits."""
    for start in range(0, 1 << 32, CHUNK * step):
        stop = min(start + CHUNK * step, 1 << 32)
        yield np.arange(start, stop, step, dtype=np.int64).astype(np.uint32).view(np.float32)


def check(name: str, reference: Callable[..., Any], exact: Callable[[Any], Any], step: int) -> int:
    """Print and return how many results of kernel ``name`` are not correctly rounded."""
    from pyodl._kernels import bind

    wrong = hard = count = 0
    closest = 1.0
    for x in chunks(step):
        got = np.empty_like(x)
        bind(f"{name}_float", [x], [got], [x.size]).run()
        with np.errstate(all="ignore"):
            value = reference(x.astype(np.float64))
            want = value.astype(np.float32)
            # The ties nearest to a binary32 are halfway to its neighbours, exact in binary64.
            up = (want.astype(np.float64) + np.nextafter(want, np.float32(np.inf))) / 2
            down = (want.astype(np.float64) + np.nextafter(want, np.float32(-np.inf))) / 2
            margin = np.minimum(abs(value - up), abs(value - down)) / abs(value)
        for i in np.flatnonzero(margin < 2.0**-48):
            true = exact(mpmath.mpf(float(x[i])))
            for tie in (float(up[i]), float(down[i])):
                closest = min(closest, float(abs(true - tie) / abs(true)))
            low, high = sorted((float(down[i]), float(up[i])))
            step_up = np.nextafter(want[i], np.float32(np.inf))
            step_down = np.nextafter(want[i], np.float32(-np.inf))
            want[i] = step_up if true > high else step_down if true < low else want[i]
            hard += 1
        same = (got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want))
        for i in np.flatnonzero(~same)[:3]:
            print(f"{name}({x[i].item().hex()}) is {got[i]!r}, must be {want[i]!r}")
        wrong += int(np.count_nonzero(~same))
        count += x.size
    print(
        f"{name}: {count} arguments, {hard} near a tie, the nearest at "
        f"2**{float(mpmath.log(closest, 2)):.2f}, {wrong} wrong",
        flush=True,
    )
    return wrong


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["tables", "check"])
    parser.add_argument("--step", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.command == "tables":
        print_tables()
        return 0
    wrong = check("exp", np.exp, mpmath.exp, arguments.step)
    wrong += check("log", np.log, mpmath.log, arguments.step)
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
