"""Keeping Snakemake quiet while it is asked about a workflow.

What Snakemake, its plugins and a Snakefile print (``print``, ``shell``, a program that the Snakefile starts) is part of
no answer of the command line: on standard output it would break a JSON document. It goes into a file that nobody sees,
from Python and from programs alike; the caller may read there why Snakemake ended the process.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Final, TextIO

_STANDARD: Final = (1, 2)


@contextlib.contextmanager
def silenced() -> Iterator[TextIO]:
    """Within it, what is printed goes into the file that is given; it is gone afterwards."""
    with contextlib.ExitStack() as stack:
        said = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed by whoever started us
                stream.flush()
        for descriptor in _STANDARD:
            stack.enter_context(_diverted(descriptor, said.fileno()))
        stack.enter_context(contextlib.redirect_stdout(said))
        stack.enter_context(contextlib.redirect_stderr(said))
        yield said


def last_lines(said: TextIO, count: int) -> str:
    """The last `count` lines of what was said, without empty ones."""
    said.flush()
    said.seek(0)
    return "\n".join([line.rstrip() for line in said if line.strip()][-count:])


@contextlib.contextmanager
def _diverted(descriptor: int, target: int) -> Iterator[None]:
    try:
        kept = os.dup(descriptor)
    except OSError:  # it is closed: nothing can be printed there
        yield
        return
    os.dup2(target, descriptor)
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
