"""Values of the options that scripts have in common."""

import argparse


def indices(text: str) -> list[int]:
    """Read a list of indices such as 8,61: the value of --indices.

    Raises:
      ArgumentTypeError: if it is none.
    """
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 8,61.") from None
