"""Python's collector of garbage, paused while many values are made that are all kept.

Looking again and again through values that nothing has dropped takes a tenth to a fifth of the time that making them
takes. What is dropped meanwhile is freed as ever: the collector is only about values that refer to each other in a
circle.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Collect no garbage meanwhile."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
