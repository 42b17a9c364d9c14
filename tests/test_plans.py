"""Plans of contractions say of their tiles what is so."""

import numpy as np
import pytest

from pyodl._kernels import SHAPES
from pyodl.primitives._contraction import Offsets, plan
from pyodl.primitives._orders import Order, Region
from pyodl.primitives._steps import Step

ROWS = {
    "a matrix": np.arange(100) * 7,
    "taps of three": (np.arange(34)[:, None] * 50 + np.arange(3) * 2).ravel(),
    "fours": (np.arange(25)[:, None] * 50 + np.arange(4) * 3).ravel(),
    "no order": np.random.default_rng(0).permutation(100),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("lanes", sorted({step.lanes for step in Step}))
def test_rows_of_spaced_tiles_lie_equally_far_apart(name, lanes):
    """However many rows there are: a tile of threes may follow on one that is not."""
    spaced = 0
    for rows in range(1, 75):
        for columns in (1, lanes, 2 * lanes, 3 * lanes, 4 * lanes + 1):
            row, column, one = ROWS[name][:rows], np.arange(columns), np.zeros(1, np.int64)
            offsets = Offsets(row, one, column, one, np.arange(rows) * columns, column)
            regions = [Region((0, rows), (0, columns), Order.SEQUENTIAL)]
            found = plan(offsets, regions, lanes)
            covered = np.zeros((rows, columns), int)
            for first, count, register, shape, _, _, is_spaced in found.tables[6].tolist():
                most, width, together = SHAPES[shape]
                for b_column, *_, lanes_used in found.tables[4][register : register + width]:
                    covered[first : first + count, b_column : b_column + lanes_used] += 1
                if is_spaced and count == most and together > 1:
                    apart = np.diff(row[first : first + most].reshape(-1, together), axis=1)
                    assert (apart == apart[0, 0]).all(), (rows, columns)
                    spaced += 1
            assert (covered == 1).all(), (rows, columns)
    assert spaced or name == "no order" or all(together == 1 for *_, together in SHAPES)
