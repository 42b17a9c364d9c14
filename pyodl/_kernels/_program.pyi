from collections.abc import Iterable

from numpy import ndarray

from pyodl._kernels._operation import Operation

TRIAL_RUNS: int

class Program:
    operations: tuple[Operation, ...]
    def __init__(self, operations: Iterable[Operation]) -> None: ...
    def __len__(self) -> int: ...
    def run(self, num_threads: int = 1) -> None: ...
    def timed(self, num_threads: int = 1) -> list[tuple[str, float]]: ...
    def parts(self, num_threads: int) -> list[list[tuple[int, int, int, dict[int, int]]]]: ...

class Step:
    def __init__(
        self, program: Program, image: ndarray, target: ndarray, loss: ndarray, arithmetic: int
    ) -> None: ...
    def settle(
        self, threads: int, loss: object, lr: object, weight_decay: object, num_threads: object
    ) -> None: ...
    def forget(self) -> None: ...
    def take(
        self,
        image: object,
        target: object,
        loss: object,
        lr: object,
        weight_decay: object,
        num_threads: object,
    ) -> float | None: ...
    def run(self) -> float: ...
