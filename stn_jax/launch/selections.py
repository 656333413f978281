"""Selections, "RTS,ST-FCN,TPS": how a config's user names what a run, or a part of a sweep, is of.

Configs import this file: it needs nothing but Python.
"""

import difflib
from collections.abc import Collection, Mapping

# Kind, such as "model" -> the names there are. Of a mapping those are the keys.
Choices = Mapping[str, Collection[str]]


def parse(selection: str, choices: Choices) -> dict[str, list[str]]:
    """Return the names that a selection holds, by kind.

    Args:
      selection: names in any order and any case, separated by commas; dashes and underscores in
        them do not matter.
      choices: the kinds, and the names of each.

    Raises:
      ValueError: on a name that there is not; the message suggests one that there is.
    """
    known = {_plain(name): (kind, name) for kind, names in choices.items() for name in names}
    chosen: dict[str, list[str]] = {kind: [] for kind in choices}
    for word in filter(None, (word.strip() for word in selection.split(","))):
        if _plain(word) not in known:
            close = difflib.get_close_matches(_plain(word), known, n=1, cutoff=0.5)
            hint = f" Did you mean {known[close[0]][1]}?" if close else ""
            options = "; ".join(f"{kind}: {' '.join(names)}" for kind, names in choices.items())
            raise ValueError(f"no {word!r} to select.{hint} There are {options}.")
        kind, name = known[_plain(word)]
        chosen[kind].append(name)
    return chosen


def parse_run(selection: str, choices: Choices) -> dict[str, list[str]]:
    """Return the names that the selection of one run holds, by kind: one or none of each.

    Raises:
      ValueError: as `parse`, and on two names of a kind.
    """
    chosen = parse(selection, choices)
    for kind, names in chosen.items():
        if len(names) > 1:
            raise ValueError(f"one run takes one {kind}, got {', '.join(names)}.")
    return chosen


def _plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")
