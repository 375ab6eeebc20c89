"""Several accounts on one machine, for tests of folders that people share.

A function runs in a process of its own that has become another user: root just becomes one; anybody else does it in a
user namespace, whose further accounts are the ones that ``/etc/subuid`` gives to him (``newuidmap``, of the Debian
package uidmap). Where these are not there, that is an error and no reason to skip a test. The function and what it
needs have to be loaded before: another user may not be able to read this checkout.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

GROUP: Final = 2000
"""The group that all accounts are in."""
_CLONE_NEWUSER: Final = 0x10000000
_ACCOUNTS: Final = 60000
"""So many identifiers are in a namespace."""
_OVERFLOW_USER: Final = Path("/proc/sys/kernel/overflowuid")


@dataclass(frozen=True, slots=True)
class Account:
    """A user who is not root; `uid` counts within the namespace, where there is one."""

    name: str
    uid: int


ALICE: Final = Account("alice", 2001)
BOB: Final = Account("bob", 2002)
MALLORY: Final = Account("mallory", 2003)


def owners_of_the_machine() -> tuple[int, ...]:
    """Whom ``/`` and ``/tmp`` belong to where accounts run, beside root.

    The machine's root has no number of his own in a user namespace; what is his seems to be the overflow user's.
    """
    return () if os.geteuid() == 0 else (int(_OVERFLOW_USER.read_text()),)


class Child:
    """A function that runs as another user; `pid` is its process."""

    def __init__(self, account: Account | None, umask: int, work: Callable[..., Any], *args: Any) -> None:
        self._answer, answer = os.pipe()
        ready, self._ready = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _run(account, umask, ready, answer, work, *args)
        os.close(answer)
        os.close(ready)
        if os.geteuid() != 0:
            os.read(self._answer, 1)  # it has its namespace
            try:
                _map(self.pid)
            except BaseException:
                os.close(self._ready)
                self.kill()
                raise
        os.write(self._ready, b"x")
        os.close(self._ready)

    def result(self) -> Any:
        """What the function returned; raises what it raised."""
        with open(self._answer, "rb") as pipe:  # noqa: PTH123  a descriptor
            content = pipe.read()
        os.waitpid(self.pid, 0)
        if not content:
            raise AssertionError("the process of the other account ended without an answer")
        failed, value = pickle.loads(content)
        if failed:
            raise value
        return value

    def kill(self) -> None:
        """End it at once, as ``kill -9`` does."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._answer)


def run(account: Account, work: Callable[..., Any], *args: Any, umask: int = 0o022) -> Any:
    """What `work` returns, run as `account`."""
    return Child(account, umask, work, *args).result()


@contextmanager
def running(account: Account, work: Callable[..., Any], *args: Any, umask: int = 0o022) -> Iterator[Child]:
    """`work` goes on as `account`, and is killed at the end."""
    child = Child(account, umask, work, *args)
    try:
        yield child
    finally:
        child.kill()


@contextmanager
def shared_folder(mode: int = 0o1777) -> Iterator[Path]:
    """A folder that belongs to none of the accounts, which all may reach; its group is theirs."""
    path = Path(tempfile.mkdtemp(prefix="shared-", dir="/tmp"))
    try:
        path.chmod(0o755)
        Child(None, 0o022, _own, path / "shared", mode).result()
        try:
            yield path / "shared"
        finally:
            Child(None, 0o022, shutil.rmtree, path / "shared").result()
    finally:
        path.rmdir()


def _own(path: Path, mode: int) -> None:
    path.mkdir()
    os.chown(path, -1, GROUP)
    path.chmod(mode)


def _run(account: Account | None, umask: int, ready: int, answer: int, work: Callable[..., Any], *args: Any) -> None:
    """In the child: become `account`, do the work, hand the answer back, and end."""
    status = 1
    try:
        if os.geteuid() != 0:
            if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER) != 0:
                raise OSError(ctypes.get_errno(), "no user namespace")
            os.write(answer, b"x")
        os.read(ready, 1)
        if account is not None:
            os.setgroups([GROUP])
            os.setresgid(GROUP, GROUP, GROUP)
            os.setresuid(account.uid, account.uid, account.uid)
        os.umask(umask)
        state = Path("/tmp", f"state-{os.getpid()}-{os.urandom(4).hex()}")  # made when something is proven
        os.environ["APPTAINER_FRESHNESS_STATE"] = str(state)
        try:
            told = False, work(*args)
        except Exception as error:  # noqa: BLE001  it is raised in the parent
            told = True, error
        shutil.rmtree(state, ignore_errors=True)
        with open(answer, "wb") as pipe:
            pickle.dump(told, pipe)
        status = 0
    finally:
        os._exit(status)


class NoAccounts(Exception):
    """This user has no further accounts to run something as; the text says what to do."""


def _map(pid: int) -> None:
    """Give the namespace of the process `pid` the accounts that this user may have there."""
    for program, own, file in (("newuidmap", os.getuid(), "/etc/subuid"), ("newgidmap", os.getgid(), "/etc/subgid")):
        first = _first_of(Path(file))
        if shutil.which(program) is None:
            raise NoAccounts(f"{program} is not on PATH: install the Debian package uidmap, or run the tests as root")
        subprocess.run([program, str(pid), "0", str(own), "1", "1", first, str(_ACCOUNTS)], check=True)


def _first_of(file: Path) -> str:
    """Return the first of the further identifiers that `file` gives to this user."""
    name = pwd.getpwuid(os.getuid()).pw_name
    lines = [line.split(":") for line in file.read_text().splitlines()] if file.exists() else []
    for line in lines:
        if line[0] in (name, str(os.getuid())) and int(line[2]) >= _ACCOUNTS:
            return line[1]
    raise NoAccounts(
        f"{file} gives {name} no {_ACCOUNTS} further accounts: have root run 'usermod --add-subuids 100000-165535 "
        f"--add-subgids 100000-165535 {name}', or run the tests as root"
    )
