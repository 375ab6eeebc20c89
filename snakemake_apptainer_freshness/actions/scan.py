"""Scanning: what trivy, where it is on PATH, finds in images that are named by their digests.

* trivy is told to ask the registry. A daemon of this machine could have another image under the name.
* It runs in an empty folder: it would take a ``trivy.yaml`` or a ``.trivyignore`` of the current one, and a work
  directory can come from another person.
* It asks registries with its own logins, and its database's host; which that is, its own settings say.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common.environment import OFFLINE, is_offline
from snakemake_apptainer_freshness.errors import FreshnessError, MissingProgram, Offline, SourceError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.settings import SCANS

_PROGRAM: Final = "trivy"


def find_scanner(environ: Mapping[str, str]) -> Path:
    """Return the scanner that the PATH of `environ` has.

    Raises
    ------
    MissingProgram
        where it has none; Offline where `environ` forbids the network, which the scanner needs.
    """
    if is_offline(environ):
        raise Offline(
            f"cannot scan images without a network: {OFFLINE} or --offline forbids it",
            hint="scan where there is one, and give the report with --vulnerabilities",
        )
    scanner = shutil.which(_PROGRAM, path=environ.get("PATH", os.defpath))
    if scanner is None:
        raise MissingProgram(
            f"cannot scan images: there is no {_PROGRAM} on PATH",
            hint="install it, or give the report of another scanner with --vulnerabilities",
        )
    return Path(scanner).absolute()


def name_to_scan(reference: str, digest: str) -> str | None:
    """Return the name by which the scanner finds the image of `digest`; None where it can be named by no digest."""
    try:
        pinned = parse(reference).pinned(Digest.parse(digest))
    except FreshnessError:
        return None
    return pinned.text.removeprefix(f"{Scheme.DOCKER}://") if pinned.scheme is Scheme.DOCKER else None


def scan(scanner: Path, name: str, platform: Platform, environ: Mapping[str, str]) -> bytes:
    """Return the JSON that `scanner` writes of the image `name`, of which it takes what is for `platform`.

    Raises
    ------
    SourceError
        where it fails, takes too long, or writes too much.
    """
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryFile() as report:
        command = [
            str(scanner), "image", "--quiet", "--format", "json", "--scanners", "vuln", "--image-src", "remote",
            "--platform", str(platform), "--", name,
        ]  # fmt: skip
        try:
            ended = subprocess.run(
                command, cwd=empty, env=dict(environ), stdin=subprocess.DEVNULL, stdout=report, stderr=subprocess.PIPE,
                timeout=SCANS.timeout, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise _failed(name, f"it took more than {SCANS.timeout:.0f} seconds") from None
        except OSError as error:
            raise _failed(name, error.strerror or str(error)) from error
        if ended.returncode:
            lines = ended.stderr[-SCANS.message :].decode(errors="replace").split("\n")
            last_line = next((line for line in reversed(lines) if line.strip()), "it said nothing")
            raise _failed(name, f"{_PROGRAM} ended with status {ended.returncode}: {last_line.strip()}")
        if report.seek(0, os.SEEK_END) > SCANS.report_size:
            raise _failed(name, f"its report has more than {SCANS.report_size} bytes")
        report.seek(0)
        return report.read()


def _failed(name: str, why: str) -> SourceError:
    return SourceError(f"could not scan {name}: {why}", hint=f"run it by hand: {_PROGRAM} image {name}")
