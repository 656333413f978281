"""Keep the C library from handing memory back to the system between training steps."""

import ctypes

# glibc's malloc.h. Each call of a compiled function asks malloc for its temporary buffers anew,
# 150 MB in a step of the CNN. By default glibc maps blocks of that size from the system and unmaps
# them when they are freed, and 40,000 page faults a call are a third of the step's time. So: never
# map a block on its own, never trim the heap, and one heap for all threads, since only that one
# can grow without bounds.
_OPTIONS = {
    -3: 2**31 - 1,  # M_MMAP_THRESHOLD, bytes
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD, bytes
    -8: 1,  # M_ARENA_MAX
}


def keep_freed_memory() -> bool:
    """Let this process keep and reuse the memory that it frees; to be called before JAX computes.

    Returns:
      Whether the C library took the settings. It does nothing where that is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all([mallopt(*option) for option in _OPTIONS.items()])
