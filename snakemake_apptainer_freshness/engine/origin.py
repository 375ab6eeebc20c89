"""Where a run comes from: who started what, where, with which programs.

Only what may be kept: of the configuration its digest, of the command line what holds no secret, of the environment
what tells Apptainer how to run an image.
"""

import contextlib
import getpass
import hashlib
import json
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.common.files import HOST, NotAFile, read_small
from snakemake_apptainer_freshness.engine import containers
from snakemake_apptainer_freshness.engine.config import PINS_KEY
from snakemake_apptainer_freshness.errors import redact
from snakemake_apptainer_freshness.record.command import kept
from snakemake_apptainer_freshness.record.overrides import settings_of
from snakemake_apptainer_freshness.record.run import LockUsed, Machine, Run, Versions, WorkflowSource
from snakemake_apptainer_freshness.settings import RECORDS, Options

_PAIR: Final = re.compile(r"^([^:\n]*?)[ \t]*:[ \t]*(.*)$", re.MULTILINE)


def run_of(workflow: Any, *, name: str, started: str, previous: str, options: Options, lock: LockUsed | None) -> Run:
    """Return what is known of the run `name` of `workflow` before its first job."""
    of_workflow = containers.of(workflow)
    chosen = {key: redact(str(getattr(options, key))) for key in options.__slots__ if key != "mode"}
    return Run(
        id=name,
        started=started,
        user=_user(),
        host=HOST,
        workdir=str(Path.cwd()),
        command=kept(sys.argv, os.environ, ours=PINS_KEY),
        config_sha256=_digest(workflow.config),
        versions=Versions(
            snakemake=metadata.version("snakemake"),
            freshness=metadata.version("snakemake-apptainer-freshness"),
            apptainer=redact(of_workflow.version),
            python=platform.python_version(),
        ),
        source=_source(str(workflow.main_snakefile)),
        mode=str(options.mode),
        options={key: value for key, value in chosen.items() if len(value) <= RECORDS.text},
        lock=lock,
        machine=machine(),
        runtime=settings_of(of_workflow.arguments, os.environ, folder=str(Path.cwd())),
        previous=previous,
    )


def lock_used(path: Path) -> tuple[LockUsed | None, bytes | None]:
    """Return the lock at `path`, and its bytes; None where there is none."""
    content = _content(path)
    if content is None:
        return None, None
    return LockUsed(path=str(path), sha256=hashlib.sha256(content).hexdigest()), content


def machine() -> Machine:
    """Return what this machine is."""
    system = ""
    with contextlib.suppress(OSError):
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return Machine(
        system=system[: RECORDS.argument],
        kernel=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        cpu=_processor(),
    )


def _processor() -> str:
    """Return the model of the first processor, as the kernel tells it."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return ""
    fields = dict(_PAIR.findall(first))
    arm = " ".join(f"{name} {fields[name]}" for name in ("CPU implementer", "CPU part") if name in fields)
    return str(fields.get("model name") or fields.get("cpu") or fields.get("uarch") or arm)[: RECORDS.argument]


def _source(snakefile: str) -> WorkflowSource:
    content = _content(Path(snakefile))
    return WorkflowSource(
        snakefile=redact(snakefile), sha256="" if content is None else hashlib.sha256(content).hexdigest()
    )


def _content(path: Path) -> bytes | None:
    """Return what the file `path` holds; None where it is no regular file, or larger than one that a person writes."""
    try:
        return read_small(path, RECORDS.lock_size)
    except (OSError, ValueError, NotAFile):
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _digest(config: Any) -> str:
    """Return the SHA-256 of `config` as JSON with sorted keys; empty where it cannot be written so."""
    try:
        text = json.dumps(config, sort_keys=True, separators=(",", ":"), default=str)
    except (TypeError, ValueError, RecursionError):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()
