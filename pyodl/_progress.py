"""Progress of a training run on a terminal: a bar that redraws itself, or a plain line an epoch."""

import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from pyodl.training import Progress

__all__ = ["ProgressLine"]

_WIDTH = 24
_INTERVAL = 0.1  # seconds between two drawings


class ProgressLine:
    """Shows `Progress` on a stream.

    Parameters
    ----------
    label : str
        Put before everything.
    stream : text file
        By default stderr. A bar is drawn only if it is a terminal.
    """

    def __init__(self, label: str = "", stream: TextIO | None = None) -> None:
        self._label = f"{label}  " if label else ""
        self._stream = sys.stderr if stream is None else stream
        self._bar = self._stream.isatty()
        self._drawn = -1.0

    def update(self, progress: "Progress") -> None:
        """Show where the run is."""
        done = progress.image == progress.images
        head = f"{self._label}epoch {progress.epoch + 1}/{progress.epochs}"
        tail = f"loss {progress.loss:.4f}  {progress.rate:.0f} samples/s"
        if not self._bar:
            if done:
                print(f"{head}  {tail}", file=self._stream, flush=True)
            return
        if not done and 0 <= progress.seconds - self._drawn < _INTERVAL:
            return
        self._drawn = -1.0 if done else progress.seconds
        filled = _WIDTH * progress.image // progress.images
        bar = "━" * filled + "·" * (_WIDTH - filled)
        self._stream.write(f"\r{head}  {bar}  {tail}\x1b[K" + ("\n" * done))
        self._stream.flush()
