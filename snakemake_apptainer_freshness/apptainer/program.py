"""Apptainer, the program: asked to pull, and stopped for good.

* It is the one that Snakemake will run the image with (:mod:`~.common.container_program`).
* A pull runs in a process group of its own with a temporary folder of its own. Whatever ends it early (a timeout,
  Ctrl-C, SIGTERM) ends the group and removes the folder, so that nothing half-written stays.
* It pulls into a folder of its own beside the destination: Apptainer 1.4 copies an image out of its cache under a
  temporary name there, which it does not remove when it is ended, and which says nothing of whose it is.
* From 1.5 on it can write the same file each time, if it is told to (``APPTAINER_REPRODUCIBLE``): times are clamped to
  the one at which the image was created, and the file has no identifier of its own. An image that does not say when,
  or says what mksquashfs takes for no time, cannot be written so; then it is pulled as earlier versions do.
* Only the end of its output is kept. It is shown where a pull fails, with what the failure means (:mod:`.failures`).
"""

import contextlib
import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from snakemake_apptainer_freshness.apptainer.failures import AttemptFailed, explain
from snakemake_apptainer_freshness.common import container_program
from snakemake_apptainer_freshness.common.environment import OFFLINE, is_offline, temporary_folder
from snakemake_apptainer_freshness.common.files import unique
from snakemake_apptainer_freshness.common.own_folder import handles, own_folder, readable
from snakemake_apptainer_freshness.settings import DISK

SCRATCH: Final = "apptainer-freshness-"
"""Begins the names of the temporary folders that Apptainer gets."""
_KEEPS_MANIFESTS: Final = (1, 4)
_REPRODUCIBLE_SINCE: Final = (1, 5)
REPRODUCIBLE: Final = "APPTAINER_REPRODUCIBLE"
"""The variable that makes it write the same file each time (``cmd/internal/cli/pull.go``)."""
_EPOCH: Final = "SOURCE_DATE_EPOCH"
"""What it hands to mksquashfs then; a person's own would be another time."""
_REUSED: Final = "Using cached SIF image"
_UNPACKS: Final = re.compile(rb"INFO: +(?:Extracting OCI image|Inserting \w+ configuration|Creating SIF file)")
"""What Apptainer says once it has all that it needs of the registry; earliest first, as versions differ."""
_SPEAKS: Final = "QUIET|SILENT|MESSAGELEVEL|DEBUG|VERBOSE|NOCOLOR"
_ELSEWHERE: Final = "PULLDIR|PULLFOLDER|SANDBOX"
"""Has it pull into another folder, although it was given a full path; or make a folder in place of a file."""
_UNDONE: Final = re.compile(rf"(?:APPTAINER|SINGULARITY)_(?:{_SPEAKS}|{_ELSEWHERE})")
"""The variables of a person that a pull of ours must not see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Apptainer:
    """The program that Snakemake runs containers with; `release` is its version's first two numbers."""

    program: str
    family: str
    version: str
    release: tuple[int, int]
    environment: Mapping[str, str]

    @classmethod
    def find(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Return the program on PATH.

        Raises
        ------
        MissingProgram
            where there is none, it does not say its version, or it is too old.
        """
        environment = dict(os.environ if environment is None else environment)
        program = container_program.find(environment)
        return cls(
            program=program.path,
            family=program.family,
            version=program.version,
            release=program.release,
            environment=environment,
        )

    @property
    def keeps_manifests(self) -> bool:
        """Whether its cache holds the registry's own manifests, so that a build from it can be proven."""
        return self.family == "apptainer" and self.release >= _KEEPS_MANIFESTS

    @property
    def is_reproducible(self) -> bool:
        """Whether it can write the same file each time that it pulls the same image."""
        return self.family == "apptainer" and self.release >= _REPRODUCIBLE_SINCE

    def pull(
        self, url: str, destination: Path, *, use_cache: bool, stop: threading.Event, downloaded: Callable[[], None]
    ) -> bool:
        """Pull `url` to `destination`, which must not be there; return whether an image of the cache was reused.

        A program that succeeds and makes no file leaves nothing there. `downloaded` is called once if the program says
        that it has all it needs of the registry.

        Raises
        ------
        AttemptFailed
            where it fails or takes too long; `destination` is then as it was.
        InterruptedError
            where `stop` was set.
        """
        if is_offline(self.environment):
            raise AttemptFailed(
                f"cannot fetch {url}, since no network is wanted",
                hint=f"to fetch it, run without --offline, or unset {OFFLINE}",
                final=True,
            )
        output = self._pull(url, destination, use_cache=use_cache, stop=stop, downloaded=downloaded)
        return _REUSED in output

    def build(self, layout: Path, destination: Path, *, stop: threading.Event) -> None:
        """Build `destination` from the only image in the OCI image layout `layout`, past every cache and network.

        Raises
        ------
        AttemptFailed
            where it fails or takes too long; `destination` is then as it was.
        InterruptedError
            where `stop` was set.
        """
        # By its name alone, so that no path of this machine gets into the image, and none has a colon.
        url, folder = f"oci:{layout.name}", layout.parent
        self._pull(url, destination.absolute(), use_cache=False, stop=stop, downloaded=lambda: None, folder=folder)

    def _pull(
        self,
        url: str,
        destination: Path,
        *,
        use_cache: bool,
        stop: threading.Event,
        downloaded: Callable[[], None],
        folder: Path | None = None,
    ) -> str:
        """Pull in the working directory `folder`; return the end of the program's output."""
        with scratch(self.environment) as temporary, own_folder(destination.with_name(f"{destination.name}.d")) as own:
            pulled = own / "image.sif"
            arguments = [self.program, "pull", *([] if use_cache else ["--disable-cache"]), str(pulled), url]
            environment = self.environment_of_pull(temporary)
            wanted = self._reproducibly(environment)
            status, output = _run(arguments, wanted, stop=stop, downloaded=downloaded, folder=folder)
            if status != 0 and _EPOCH in output and wanted != environment:
                pulled.unlink(missing_ok=True)
                status, output = _run(arguments, environment, stop=stop, downloaded=downloaded, folder=folder)
            if status != 0:
                raise explain(url, status, readable(output))
            with contextlib.suppress(FileNotFoundError):
                pulled.rename(destination)
        return output

    def environment_of_pull(self, temporary: Path) -> dict[str, str]:
        """Return the environment of a pull that unpacks in `temporary`, and makes one file where it is told to."""
        environment = {key: value for key, value in self.environment.items() if not _UNDONE.fullmatch(key)}
        return environment | {f"{self.family.upper()}_TMPDIR": str(temporary)}

    def _reproducibly(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return `environment` with the wish for the same file each time, unless a person has wished otherwise."""
        if not self.is_reproducible or REPRODUCIBLE in environment:
            return dict(environment)
        return {key: value for key, value in environment.items() if key != _EPOCH} | {REPRODUCIBLE: "true"}


@contextlib.contextmanager
def scratch(environment: Mapping[str, str]) -> Iterator[Path]:
    """Provide a temporary folder where the user wants Apptainer's to be, removed with all that is left in it."""
    parent = temporary_folder(environment)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(own_folder(parent.absolute() / f"{SCRATCH}{unique()}"))
        except OSError as error:
            raise AttemptFailed(
                f"cannot make a temporary folder in {parent}: {error.strerror}",
                hint="set APPTAINER_TMPDIR to a folder with room for the unpacked image",
                final=True,
            ) from error
        yield folder


def _run(
    arguments: list[str],
    environment: Mapping[str, str],
    *,
    stop: threading.Event,
    downloaded: Callable[[], None],
    folder: Path | None,
) -> tuple[int, str]:
    """Run a program in `folder` to its end; return its exit status and the end of its output.

    Raises
    ------
    AttemptFailed
        where it does not start, or takes longer than `DISK.pull_timeout`.
    InterruptedError
        where `stop` was set.
    """
    try:
        process = subprocess.Popen(
            arguments,
            env=dict(environment),
            cwd=folder,
            pass_fds=handles([*arguments, *environment.values()]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise AttemptFailed(f"{arguments[0]} does not start: {error.strerror}", final=True) from error
    try:
        return _listen(process, readable(" ".join(arguments)), stop=stop, downloaded=downloaded)
    except BaseException:
        _end(process)
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()


def _listen(
    process: subprocess.Popen[bytes], command: str, *, stop: threading.Event, downloaded: Callable[[], None]
) -> tuple[int, str]:
    """Return the exit status of `process` and the end of its output, once it has ended."""
    give_up = time.monotonic() + DISK.pull_timeout
    output = bytearray()
    was_told = False
    for piece in _pieces(process):
        output += piece
        del output[: -DISK.output_size]
        if piece and not was_told and _UNPACKS.search(output):
            was_told = True
            downloaded()
        if stop.is_set():
            raise InterruptedError(f"stopped while {command} ran")
        if time.monotonic() > give_up:
            raise AttemptFailed(
                f"{command} did not end in {DISK.pull_timeout:.0f} s",
                hint="check the network and the file system, then run again",
                final=True,
            )
    return process.wait(), output.decode("utf-8", "replace")


def _pieces(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Yield the output of a program as it comes, until it ends; an empty piece while there is none."""
    assert process.stdout is not None  # noqa: S101  it was started with a pipe
    poll = select.poll()  # select() cannot watch the 1025th open file
    poll.register(process.stdout, select.POLLIN | select.POLLHUP)
    listening = True
    while listening or process.poll() is None:
        if not listening:
            time.sleep(DISK.program_poll)
        elif poll.poll(DISK.lock_poll * 1000):
            piece = os.read(process.stdout.fileno(), DISK.output_size)
            listening = bool(piece)
            yield piece
            continue
        elif process.poll() is not None:
            return  # a grandchild holds the pipe open
        yield b""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and all that it started: ask, wait, kill."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(DISK.grace)
