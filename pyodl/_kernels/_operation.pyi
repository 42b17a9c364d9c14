from collections.abc import Sequence

from numpy import ndarray

def has_openmp() -> bool: ...
def processors() -> int: ...
def x86_level() -> int: ...
def set_parallel_work(work: float) -> float: ...

class Operation:
    name: str
    macs: int
    effort: float
    arrays: tuple[ndarray | None, ...]
    inputs: int
    def __init__(
        self,
        name: str,
        kernel: object,
        inputs: Sequence[ndarray | None],
        outputs: Sequence[ndarray | None],
        sizes: Sequence[int] = (),
        scalars: Sequence[float] = (),
        arithmetic: int = 0,
        cores: int = 1,
    ) -> None: ...
    def run(self, num_threads: int = 1) -> None: ...
    def run_part(self, thread: int, threads: int) -> None: ...
    def reach(self, thread: int, threads: int) -> list[tuple[int, int]] | None: ...
    def set_scalars(self, *scalars: float) -> None: ...
