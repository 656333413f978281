"""Work on a stream of items in several processes, such as decoding images."""

import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

_AHEAD = 8  # items waiting, for each process: so much of the stream is in memory


def in_order(
    function: Callable[[Any], Any], items: Iterable[Any], *, workers: int = 1
) -> Iterator[Any]:
    """Yield what a function makes of each item, in the order of the items.

    Args:
        function: of an item; at the top level of a module, or a `partial` of such a one.
        items: read as far ahead as keeps all processes busy, and no further.
        workers: processes that work; with 1, it is this one.

    Raises:
        ValueError: there are less than one.
        OSError: one of the processes ended, for want of memory as a rule.
        Exception: whatever the function or the items raise, after the results before it.
    """
    if workers < 1:
        raise ValueError(f"workers must be positive, got {workers}.")
    if workers == 1:
        yield from map(function, items)
        return
    # Forked, they would inherit the threads of whatever else is loaded here.
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_depend_on_the_parent
    )
    waiting, errors = deque(), []
    try:
        for item in _until_error(items, errors):
            waiting.append(pool.submit(function, item))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise OSError(
            f"one of {workers} worker processes ended, for want of memory as a rule: try fewer."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
    if errors:
        raise errors[0]


def _until_error(items: Iterable[Any], errors: list[Exception]) -> Iterator[Any]:
    """Yield items; an error is put down instead of raised, as those before it are to be done."""
    try:
        yield from items
    except Exception as error:
        errors.append(error)


def _depend_on_the_parent() -> None:
    """Leave interrupts to the parent process, and end when it ends, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
