import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from stn_jax.launch import memory

# Frees and allocates 300 MB again and again on a thread of its own, and counts the page faults.
PROGRAM = """
import resource, sys, threading
import numpy as np
from stn_jax.launch.memory import keep_freed_memory

if "keep" in sys.argv:
    print(keep_freed_memory())
else:
    print(False)

def work():
    np.ones(300_000_000, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(300_000_000, np.uint8)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def run(*arguments: str) -> tuple[bool, int]:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments]
    # NumPy would ask for huge pages, which hide most faults.
    environment = {"NUMPY_MADVISE_HUGEPAGE": "0", "PYTHONPATH": "."}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    taken, faults = done.stdout.split()
    return taken == "True", int(faults)


def test_freed_memory_is_used_again_without_page_faults():
    taken, faults = run("keep")
    if not taken:
        pytest.skip("the C library is not glibc")
    _, ordinary = run()
    assert ordinary > 10_000
    assert faults < ordinary / 100


def test_an_old_c_library_is_left_as_it_is(monkeypatch):
    """Its threshold grows by itself, which any setting would turn off."""
    asked = []

    def refuse(option, value):
        asked.append(option)
        return 0

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=refuse))
    assert not memory.keep_freed_memory()
    assert asked == [-3]
