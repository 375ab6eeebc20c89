"""Programs of Python run in a process that was forked from one which has the large libraries loaded.

Three quarters of what a start of Snakemake costs is loading pandas, SQLAlchemy and the like, and the tests start it
hundreds of times. Nothing of Snakemake, of its plugins or of this project is loaded before (a test holds
:data:`tests.support.warm_start.LIBRARIES` to that), so what is under test starts as it does for a user. Interpreters
that were started with other variables that Python itself reads are others.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Final

from tests.support import warm_start

_READ_AT_THE_START: Final = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "TZ")
_starting = threading.Lock()


def run(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run ``PYTHON -m MODULE …`` or ``PYTHON -c PROGRAM …`` as :func:`subprocess.run` does, without any input."""
    python, *program = command
    at_the_start = {name: value for name, value in env.items() if name.startswith(_READ_AT_THE_START)}
    with _starting:
        interpreter = _interpreter(python, tuple(sorted(at_the_start.items())))
        status, stdout, stderr = interpreter.begin(program, cwd=cwd, env=env)
    with ExitStack() as stack:
        files = {name: stack.enter_context(os.fdopen(end, "rb", 0)) for name, end in
                 (("status", status), ("stdout", stdout), ("stderr", stderr))}  # fmt: skip
        said: dict[str, bytes] = dict.fromkeys(files, b"")
        selector = stack.enter_context(selectors.DefaultSelector())
        for name, file in files.items():
            selector.register(file, selectors.EVENT_READ, name)
        try:
            _read(selector, said, timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired(command, timeout, said["stdout"], said["stderr"]) from None
        finally:
            if len(words := said["status"].split()) == 1:  # it has not ended: this one, or the test, was interrupted
                os.kill(int(words[0]), signal.SIGKILL)
    _, waited = said["status"].split()
    return subprocess.CompletedProcess(
        list(command), os.waitstatus_to_exitcode(int(waited)), said["stdout"].decode(), said["stderr"].decode()
    )


def _read(selector: selectors.BaseSelector, said: dict[str, bytes], timeout: float) -> None:
    """Put what comes into `said` until all ends are closed; a :class:`TimeoutError` where that takes too long."""
    end = None
    while selector.get_map():
        if end is None and said["status"]:
            end = time.monotonic() + timeout  # from when it began: the libraries may have been loaded before that
        ready = selector.select(None if end is None else max(end - time.monotonic(), 0))
        if not ready:
            raise TimeoutError
        for key, _ in ready:
            if part := os.read(key.fd, 1 << 16):
                said[key.data] += part
            else:
                selector.unregister(key.fileobj)


class _Interpreter:
    """A running ``warm_start.py``."""

    def __init__(self, python: str, env: Mapping[str, str]) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [python, str(Path(warm_start.__file__)), str(other.fileno())],
                pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env={"PATH": os.defpath, **env}, cwd="/",
            )  # fmt: skip
        atexit.register(self.end)

    def begin(self, program: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> tuple[int, int, int]:
        """Begin `program`; where its process and its end are told, and what it prints on both channels, can be read."""
        readable, writable = zip(*(os.pipe() for _ in range(3)), strict=True)
        message = json.dumps({"program": list(program), "cwd": str(cwd), "env": dict(env)}).encode()
        try:
            socket.send_fds(self._socket, [message], list(writable))
        finally:
            for end in writable:
                os.close(end)
        status, stdout, stderr = readable
        return status, stdout, stderr

    def end(self) -> None:
        """End it: it ends where this end of its socket is closed."""
        self._socket.close()
        self._process.communicate()


@cache
def _interpreter(python: str, env: tuple[tuple[str, str], ...]) -> _Interpreter:
    return _Interpreter(python, dict(env))
