"""Started by :mod:`tests.support.warm` in any Python: loads large libraries, and forks a process for each program.

It needs the standard library alone, and ends when the other side closes the socket. A program is run by a process of
its own, which ends as every Python does; that process's parent, a fork as well, waits for it and tells its status.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import socket
import sys
import types
from pathlib import Path

LIBRARIES = (
    *("pandas", "sqlmodel", "pydantic", "numpy", "jinja2", "docutils.parsers.rst.directives.images"),
    *("tabulate", "psutil", "dateutil.parser", "yaml", "pulp", "nbformat", "requests", "wrapt", "immutables"),
    *("asyncio", "tenacity", "configargparse", "referencing", "httpx", "rich.console", "rich.progress", "filelock"),
)
"""What Snakemake and this project load of others; another version may lack some."""
LARGEST_MESSAGE = 1 << 20


def load() -> None:
    """Load the libraries, and let their objects be left alone by the collector: pages stay shared."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()


def next_program(channel: socket.socket) -> list[str]:
    """Return the program that this process, a fork, runs; in the process that was started this returns never."""
    while True:
        message, ends, _, _ = socket.recv_fds(channel, LARGEST_MESSAGE, 3)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            break
        for end in ends:
            os.close(end)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    channel.close()
    status, stdout, stderr = ends
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)
    if child := os.fork():
        os.close(1)
        os.close(2)
        os.write(status, f"{child} ".encode())
        os.write(status, str(os.waitpid(child, 0)[1]).encode())
        os._exit(0)
    os.close(status)
    wanted = json.loads(message)
    os.chdir(wanted["cwd"])
    put_there_by_python = {name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ}  # PEP 538
    os.environ.clear()
    os.environ.update(put_there_by_python | wanted["env"])
    return list(wanted["program"])


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file
    load()
    how, what, *arguments = next_program(socket.socket(fileno=int(sys.argv[1])))
    if how == "-m":
        sys.path.insert(0, str(Path.cwd()))
        sys.argv = [what, *arguments]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, "")
        sys.argv = ["-c", *arguments]
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), main.__dict__)
