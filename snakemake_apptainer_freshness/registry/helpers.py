"""Credential helpers: foreign programs that keep logins (``docker-credential-*``, docker-credential-helpers).

A helper gets the key on its standard input, a few seconds, and a bounded number of bytes to answer with. What takes
more is killed with its children. What it writes to standard error is never read, because it may be the secret, and no
error quotes its answer.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import Final

from snakemake_apptainer_freshness.errors import InvalidLogin
from snakemake_apptainer_freshness.registry.challenge import Login
from snakemake_apptainer_freshness.settings import Limits

TOKEN_USER: Final = "<token>"  # noqa: S105  a marker: where it stands, the secret is an identity token
_NOT_FOUND: Final = "credentials not found"


def ask_helper(helper: str, key: str, *, environ: Mapping[str, str], limits: Limits) -> Login | None:
    """The login that ``docker-credential-<helper> get`` has for `key`; None where it has none.

    Raises
    ------
    InvalidLogin
        where it is not there, takes too long, says too much, or is not understood; its words are not quoted.
    """
    program = f"docker-credential-{helper}"
    status, output = _run(program, key, environ, limits)
    if status != 0:
        if _NOT_FOUND in output.decode("utf-8", "replace").lower():
            return None
        raise _helper_failed(program, f"it ended with status {status}")
    try:
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _helper_failed(program, "its answer is not understood") from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise _helper_failed(program, "its answer is not understood")
    if username == TOKEN_USER:
        return Login(identity_token=secret, source=program)
    return Login(username=username, password=secret, source=program) if username else None


def _run(program: str, key: str, environ: Mapping[str, str], limits: Limits) -> tuple[int, bytes]:
    """Exit status and output of a helper, which is killed with its children when it takes too much."""
    try:
        process = subprocess.Popen(
            [program, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            start_new_session=True,
        )
    except OSError as error:
        raise _helper_failed(program, error.strerror or "it cannot be started") from None
    try:
        output = _talk(process, key, program, limits)
        return process.wait(timeout=limits.helper_timeout), output
    except subprocess.TimeoutExpired:
        raise _helper_failed(program, f"it took more than {limits.helper_timeout:g} s") from None
    finally:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _talk(process: "subprocess.Popen[bytes]", key: str, program: str, limits: Limits) -> bytes:
    """All that the helper writes to its standard output, having read `key`."""
    assert process.stdin is not None  # noqa: S101  asked for with PIPE
    assert process.stdout is not None  # noqa: S101
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(key.encode())
        process.stdin.close()
    deadline = time.monotonic() + limits.helper_timeout
    output = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise _helper_failed(program, f"it took more than {limits.helper_timeout:g} s")
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                return bytes(output)
            output += piece
            if len(output) > limits.helper_output:
                raise _helper_failed(program, f"it wrote more than {limits.helper_output} bytes")


def _helper_failed(program: str, problem: str) -> InvalidLogin:
    return InvalidLogin(f"the credential helper {program} failed: {problem}", hint="run it by hand to see what it says")
