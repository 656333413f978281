"""Some of the numbers of prepared sets, in an order, read from disk as they are asked for."""

from collections.abc import Sequence

import numpy as np

from stn_jax.data.svhn import Numbers

CHUNK = 1000  # numbers


class Selection:
    """Rows of several memory-mapped sets, as if they were one."""

    def __init__(self, parts: Sequence[Numbers], rows: np.ndarray | None = None):
        """Select rows of the parts laid end to end: int [N]; by default all."""
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part.label) for part in parts)])
        self._rows = np.arange(self._starts[-1]) if rows is None else rows

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._rows)

    @property
    def num_bytes(self) -> int:
        """How much memory their images take."""
        return len(self) * int(np.prod(self._parts[0].image.shape[1:]))

    def select(self, rows: np.ndarray) -> "Selection":
        """Select some of these."""
        return Selection(self._parts, self._rows[rows])

    def read(self, index: np.ndarray | slice = slice(None)) -> Numbers:
        """Read the numbers at an index [n], by default all: arrays of their own, in memory."""
        rows = self._rows[index]
        part_of = np.searchsorted(self._starts, rows, side="right") - 1
        fields = []
        for arrays in zip(*self._parts, strict=True):
            field = np.empty((len(rows), *arrays[0].shape[1:]), arrays[0].dtype)
            # In pieces: what is read of a memory-mapped array at once is held twice.
            for start in range(0, len(rows), CHUNK):
                piece = slice(start, start + CHUNK)
                for number, array in enumerate(arrays):
                    here = part_of[piece] == number
                    field[piece][here] = array[rows[piece][here] - self._starts[number]]
            fields.append(field)
        return Numbers(*fields)


def hold_out(selection: Selection, count: int, *, seed: int) -> tuple[Selection, Selection]:
    """Divide at random: what is left, in its order, and `count` that are held out.

    Raises:
      ValueError: if that leaves none to train on.
    """
    if not 0 <= count < len(selection):
        raise ValueError(
            f"{count} numbers cannot be held out of {len(selection)}: at least one must be left."
        )
    order = np.random.default_rng(seed).permutation(len(selection))
    return selection.select(np.sort(order[count:])), selection.select(np.sort(order[:count]))
