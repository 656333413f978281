"""Keep the C library from handing memory back to the system between training steps."""

import ctypes

# glibc's malloc.h. Each call of a compiled function asks malloc for its temporary buffers anew,
# 150 MB in a step of the CNN. By default glibc maps blocks of that size from the system and unmaps
# them when they are freed, and 40,000 page faults a call are a third of the step's time. So: never
# map a block on its own, never trim the heap, and one heap for all threads, since only that one
# can grow without bounds.
_MMAP_THRESHOLD = (-3, 2**31 - 1)  # M_MMAP_THRESHOLD, bytes
_OTHERS = (
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD, bytes
    (-8, 1),  # M_ARENA_MAX
)


def keep_freed_memory() -> bool:
    """Let this process keep and reuse the memory that it frees; to be called before JAX computes.

    Returns:
      Whether the C library took the settings. It does nothing where that is not glibc, or an old
      one with a lower limit: there any setting turns off that the threshold grows by itself.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not mallopt(*_MMAP_THRESHOLD):
        return False
    return all([mallopt(*option) for option in _OTHERS])
