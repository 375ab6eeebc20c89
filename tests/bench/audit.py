"""Auditing 100,000 outputs of 50 runs: whole processes, beside what merely reading the same files takes.

The work directory is made of real records, written by the journal's own writer, of Snakemake's metadata in both of its
backends, and of outputs that lie there. *Reading alone* opens and reads every file that an audit has to read and asks
for the status of every output, in one thread, and understands nothing of it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from snakemake_apptainer_freshness.record.run import JobRecord, OutputRecord, Run
from tests.bench.timing import Command, in_turn, median, ratio, table
from tests.support import records

OUTPUTS = 100_000
RUNS = 50
ROUNDS = 3
WANTED_SECONDS, WANTED_MEMORY = 10, 500

AUDIT = "from snakemake_apptainer_freshness.cli import main; main()"
READ = """
import os, sys
folder = sys.argv[1]
for where, _, names in os.walk(f"{folder}/.snakemake"):
    for name in names:
        with open(f"{where}/{name}", "rb") as file:
            file.read()
for where, _, names in os.walk(f"{folder}/results"):
    for name in names:
        os.stat(f"{where}/{name}")
"""


def fill(folder: Path) -> None:
    """The runs, their outputs, and Snakemake's metadata of them."""
    image = records.image(folder)
    left = [_output(folder, number) for number in range(OUTPUTS)]
    each = OUTPUTS // RUNS
    runs = [_run(folder, number, left[number * each : (number + 1) * each], image) for number in range(RUNS)]
    records.write(folder, *runs)
    for number, output in enumerate(left):
        records.metadata(
            folder,
            output.path,
            rule=f"rule{number % 4}",
            input=[f"results/{number // 100:04d}/{number - 1:06d}.tsv"],
            container_img_url=image.pinned,
            code="gASV" + "A" * 400,
            shellcmd="salmon quant --index index --libType A --mates1 reads --output quants " * 4,
            endtime=output.mtime_ns / 1e9,
        )


def _output(folder: Path, number: int) -> OutputRecord:
    return records.output(folder, f"results/{number // 100:04d}/{number:06d}.tsv")


def _run(folder: Path, number: int, left: Sequence[OutputRecord], image: object) -> Run:
    jobs: list[JobRecord] = [
        records.job(place, f"rule{place % 4}", output, ran=image, wildcards={"sample": f"sample{place}"})
        for place, output in enumerate(left)
    ]
    made = records.run(folder, 1, *jobs, images=(image,))
    time = f"2026-03-02T08:{number:02d}:00Z"
    return replace(made, id=f"20260302T08{number:02d}00.000000Z", started=time, ended=time)


def into_database(folder: Path) -> None:
    """Move the metadata into the table that Snakemake's database backend makes."""
    metadata = folder / ".snakemake" / "metadata"
    columns = (
        "namespace", "target", "rule", "input", "log", "shellcmd", "params", "code", "record_format_version",
        "conda_env", "container_img_url", "software_stack_hash", "job_hash", "starttime", "endtime", "incomplete",
        "external_jobid", "input_checksums",
    )  # fmt: skip
    with sqlite3.connect(folder / ".snakemake" / "metadata.db") as database:
        database.execute(f"CREATE TABLE snakemake_metadata ({', '.join(columns)}, PRIMARY KEY (namespace, target))")
        for path in metadata.iterdir():
            record = json.loads(path.read_text())
            row = record | {
                "namespace": str(folder / ".snakemake"),
                "target": records.name_of(path),
                "input": json.dumps(record["input"]),
            }
            database.execute(
                f"INSERT INTO snakemake_metadata VALUES ({', '.join('?' * len(columns))})",
                [row.get(column) for column in columns],
            )
            path.unlink()
    metadata.rmdir()


def main() -> None:
    """Print what an audit costs."""
    rows = [("", "reading alone", "audit", "ratio", "memory", "wanted")]
    with tempfile.TemporaryDirectory(prefix="bench-audit-") as temporary:
        folder = Path(temporary, "work")
        folder.mkdir()
        fill(folder)
        for name in ("files", "a database"):
            if name == "a database":
                into_database(folder)
            for output, more in (("text", []), ("--json", ["--json"])):
                rows.append(_measure(folder, f"{name}, {output}", more))
    table(f"{OUTPUTS:,} outputs of {RUNS} runs; Snakemake's metadata in …", rows)


def _measure(folder: Path, name: str, more: Sequence[str]) -> tuple[str, ...]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    read = Command(arguments=[sys.executable, "-c", READ, str(folder)], folder=folder, environment=environment)
    ours = Command(arguments=[sys.executable, "-c", AUDIT, "audit", *more], folder=folder, environment=environment)
    plain, audits = in_turn(read.run, ours.run, rounds=ROUNDS)
    return (
        name,
        f"{median(plain, 'wall'):.1f} s",
        f"{median(audits, 'wall'):.1f} s",
        f"{ratio(audits, plain, 'wall'):.1f} x",
        f"{median(audits, 'memory'):.0f} MiB",
        f"under {WANTED_SECONDS} s, {WANTED_MEMORY} MB",
    )
