"""Make pyodl/data/digits.npz of the test part of the UCI handwritten digits.

Usage: python tools/make_digits.py optdigits.tes [pyodl/data/digits.npz]

The input is the file of the UCI Machine Learning Repository (doi 10.24432/C50P49), plain or
gzipped: one line per image, 64 values 0..16 row by row and the digit, separated by commas.
scikit-learn ships the same lines as sklearn/datasets/data/digits.csv.gz.
"""

import gzip
import sys
from pathlib import Path

import numpy as np

OUTPUT = Path(__file__).resolve().parents[1] / "pyodl" / "data" / "digits.npz"


def main(source: str, output: str | Path = OUTPUT) -> None:
    """Read the lines, check them and write images (n, 8, 8) and labels (n,) as uint8."""
    with (gzip.open if source.endswith(".gz") else open)(source, "rt") as lines:
        table = np.loadtxt(lines, delimiter=",")
    if table.shape != (1797, 65) or (table != table.astype(np.uint8)).any():
        raise ValueError(f"{source} is not 1797 lines of 65 small integers")
    images, labels = table[:, :64].astype(np.uint8), table[:, 64].astype(np.uint8)
    if images.max() > 16 or labels.max() > 9:
        raise ValueError(f"{source} holds a pixel above 16 or a label above 9")
    np.savez_compressed(output, images=images.reshape(-1, 8, 8), labels=labels)
    print(f"{output}: {len(labels)} images, {Path(output).stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
