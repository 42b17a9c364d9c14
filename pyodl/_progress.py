"""Progress of a training run: a bar that redraws itself on a terminal, else a line an epoch."""

import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from pyodl.network import Network
    from pyodl.training import History, Progress

__all__ = ["ProgressLine"]

_WIDTH = 24
_INTERVAL = 0.1  # seconds between two drawings


class ProgressLine:
    """Shows `Progress` on a stream; its methods are for `fit`.

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
        unicode = (self._stream.encoding or "").lower().startswith("utf")
        self._marks = ("━", "·") if unicode else ("#", ".")
        self._line = ""
        self._drawn = 0.0

    def update(self, progress: "Progress") -> None:
        """Show where the run is."""
        head = f"{self._label}epoch {progress.epoch + 1}/{progress.epochs}"
        tail = f"loss {progress.loss:.4f}  {progress.rate:.0f} samples/s"
        self._line = f"{head}  {tail}"
        done = progress.image == progress.images
        if not self._bar or (not done and 0 <= progress.seconds - self._drawn < _INTERVAL):
            return
        self._drawn = progress.seconds
        filled = _WIDTH * progress.image // progress.images
        full, empty = self._marks
        bar = full * filled + empty * (_WIDTH - filled)
        self._line = f"{head}  {bar}  {tail}"
        self._stream.write(f"\r{self._line}\x1b[K")
        self._stream.flush()

    def end_epoch(self, _net: "Network", history: "History") -> None:
        """End the line of an epoch with its accuracy on the held-out images, if there are any."""
        accuracy = history.validation_accuracy
        held_out = f"  held-out accuracy {accuracy[-1]:.4f}" if accuracy else ""
        before = "\r" if self._bar else ""
        self._stream.write(f"{before}{self._line}{held_out}\n")
        self._stream.flush()

    def abandon(self) -> None:
        """Leave an unfinished bar as it is and go to a new line."""
        if self._bar and self._line:
            self._stream.write("\n")
            self._stream.flush()
