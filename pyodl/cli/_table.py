"""Tables on standard output."""

__all__ = ["Table"]


class Table:
    """Prints rows as they come.

    Parameters
    ----------
    columns : dict
        Alignment and width by head, such as {"model": "<10"}; what follows a "|" in a head is not
        printed and tells columns of one head apart.
    """

    def __init__(self, columns: dict[str, str]) -> None:
        self._formats = list(columns.values())
        self.row(*(head.partition("|")[0] for head in columns))

    def row(self, *cells: str) -> None:
        """Print one row."""
        text = [format(cell, how) for cell, how in zip(cells, self._formats, strict=True)]
        print("  ".join(text).rstrip(), flush=True)
