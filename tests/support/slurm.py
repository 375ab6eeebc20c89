"""A real Slurm of one node, private to a folder: for jobs that run as a cluster runs them.

Controller, node daemon and munge run as the user who runs the tests, on free loopback ports; nothing of the system is
read or written. The programs that Snakemake's executor calls find it through scripts on PATH that say where its
configuration lies, since the executor takes ``SLURM_CONF`` out of the environment. ``sbatch`` answers when its job is
over: where the executor finds a job that still runs, it looks again eleven seconds later at the earliest.

Any user can have one but ``nobody``, whom Slurm does not accept.
"""

import contextlib
import os
import pwd
import secrets
import shlex
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support import programs

CLIENTS: Final = ("sacct", "sacctmgr", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun", "sshare")
START_TIMEOUT: Final = 30.0

_CLIENT: Final = """\
#!/bin/sh
SLURM_CONF={configuration} exec {program} "$@"
"""
_SUBMIT: Final = """\
#!/bin/sh
job=$(SLURM_CONF={configuration} {program} "$@") || exit
while [ -n "$({folder}/bin/squeue --noheader --jobs "${{job%%;*}}" 2> /dev/null)" ]; do sleep 0.1; done
echo "$job"
"""

_CONFIGURATION: Final = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
PluginDir={plugins}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60 State=UP
"""


class SlurmError(Exception):
    """Slurm does not start; the text has its daemons' last words."""


class Slurm:
    """A cluster of this machine; `folder` must have a short path, since munge's socket lies in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().partition(".")[0]
        self._daemons: list[subprocess.Popen[bytes]] = []

    @property
    def path(self) -> str:
        """What has to come first on PATH, so that programs submit jobs here."""
        return str(self.folder / "bin")

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop all daemons, and with them every job."""
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(5)
                continue
            daemon.kill()
            daemon.wait()
        self._daemons = []

    def _start(self) -> None:
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        self._configure()
        self._run(
            "munged",
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={self.folder}/munge.socket",
            f"--pid-file={self.folder}/munged.pid",
            f"--seed-file={self.folder}/munged.seed",
        )
        self._until((self.folder / "munge.socket").exists, "munge")
        self._run("slurmctld-wlm", "-D")
        stepd = programs.private("slurmd-wlm").resolve().with_name("slurmstepd-wlm")
        self._run("slurmd-wlm", "-D", "-d", str(stepd))
        self._until(self._is_idle, "Slurm")

    def _configure(self) -> None:
        plugins = next((programs.TOOLS / "root/usr/lib").glob("*/slurm-wlm"))
        (self.folder / "slurm.conf").write_text(
            _CONFIGURATION.format(
                folder=self.folder,
                host=self.host,
                user=pwd.getpwuid(os.geteuid()).pw_name,
                plugins=plugins,
                controller=_free_port(),
                node=_free_port(),
            )
        )
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        for name in CLIENTS:
            script = self.folder / "bin" / name
            text = _SUBMIT if name == "sbatch" else _CLIENT
            places = {"folder": self.folder, "configuration": self.folder / "slurm.conf"}
            places["program"] = programs.private(name)
            script.write_text(text.format_map({key: shlex.quote(str(path)) for key, path in places.items()}))
            script.chmod(0o755)

    def _run(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            daemon = subprocess.Popen(
                [programs.private(name), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"SLURM_CONF": f"{self.folder}/slurm.conf"},
            )
        self._daemons.append(daemon)

    def _is_idle(self) -> bool:
        answer = subprocess.run(
            [f"{self.path}/sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, check=False
        )
        return answer.stdout.strip() == "idle"

    def _until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not done():
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in self._daemons):
                words = "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))
                raise SlurmError(f"{what} does not start:\n{words}")
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
