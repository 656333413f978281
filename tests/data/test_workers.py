"""Work on a stream of items in several processes."""

import os
import subprocess
import sys
import time

import pytest

from stn_jax.data import workers
from stn_jax.data.workers import in_order


def process_of(item):
    """Take the longer the earlier an item is, so that the last are done first."""
    time.sleep(0.3 / (1 + item))
    return item, os.getpid()


def fail_at_three(item):
    if item == 3:
        raise ValueError("three")
    return item


def end_at_three(item):
    if item == 3:
        os._exit(1)
    return item


@pytest.mark.parametrize("count", [1, 2])
def test_results_are_in_the_order_of_the_items(count):
    items, processes = zip(*in_order(process_of, range(12), workers=count), strict=True)
    assert list(items) == list(range(12))
    assert (os.getpid() in processes) == (count == 1)


def test_the_stream_is_not_read_far_ahead():
    read = []

    def items():
        for item in range(1_000):
            read.append(item)
            yield item

    results = in_order(abs, items(), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(read) <= 3 + 2 * workers._AHEAD
    results.close()


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_comes_after_the_results_before_it(count):
    results = in_order(fail_at_three, range(100), workers=count)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_of_the_items_does_so_too(count):
    def items():
        yield from range(5)
        raise ValueError("damaged")

    results = in_order(abs, items(), workers=count)
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="damaged"):
        next(results)


def test_processes_end_with_one_that_is_killed():
    code = """
from tests.data.test_workers import process_of
from stn_jax.data.workers import in_order
for _, process in in_order(process_of, range(1_000), workers=2):
    print(process, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)  # it is there
        parent.kill()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("a worker outlives its parent")


def test_a_process_that_is_killed_is_an_error():
    with pytest.raises(OSError, match="one of 2 worker processes ended"):
        list(in_order(end_at_three, range(100), workers=2))


def test_without_workers_there_is_none():
    with pytest.raises(ValueError, match="workers must be positive, got 0"):
        list(in_order(abs, range(3), workers=0))
