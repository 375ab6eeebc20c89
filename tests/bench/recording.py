"""What the record of a run costs: 1,000 short jobs with the flag on, recorded and not, in turn.

The jobs do next to nothing, so that what Snakemake's main process does for each weighs as much as it can; its own CPU
time is compared, without that of the jobs. Beside the ratio of two noisy runs stands what the methods of the recorder
took within one. *Not recorded* is a switch of this benchmark, not one that a user has. Memory is what the recorder's
code still holds after the last job, as ``tracemalloc`` counts it in a run of its own.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from snakemake_apptainer_freshness.record.journal import read_all
from tests.bench.timing import table
from tests.support import programs
from tests.support.images import push, tiny_image
from tests.support.registry import RealRegistry

ROOT = Path(__file__).parents[2]
JOBS, ROUNDS = 1000, 5
PLAIN, RECORDED, TRACED = "plain", "recorded", "traced"
OURS = ("engine/recording.py", "engine/notes.py", "engine/witnesses.py", "audit/*.py", "json/*.py", "hashlib.py")
"""Where what recording keeps would come from."""

SNAKEFILE = """
rule all:
    input: "boxed.txt", expand("out/{{n}}.txt", n=range({jobs}))

rule boxed:
    output: "boxed.txt"
    container: "{image}"
    shell: "touch {{output}}"

rule short:
    output: "out/{{n}}.txt"
    shell: "printf {content} > {{output}}"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run cost its main process: CPU seconds, those of them that recording took, and bytes that it kept."""

    cpu: float
    recording: float
    kept: int


def one_run(folder: Path, environment: Mapping[str, str], how: str) -> Cost:
    """All jobs anew, in a process of their own."""
    subprocess.run(["rm", "-rf", "out", "boxed.txt", ".snakemake/metadata"], cwd=folder, check=True)
    command = [sys.executable, "-m", "tests.bench.recording", str(folder), how]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Cost(**json.loads((folder / "cost.json").read_text()))


def measured(folder: str, how: str) -> None:
    """Be that main process, recording as `how` says, and write down what it cost."""
    from snakemake import cli

    from snakemake_apptainer_freshness.engine.main import MainSession
    from snakemake_apptainer_freshness.engine.recording import Recorder

    spent = [0.0]
    kept = [0]
    if how == PLAIN:
        MainSession._new_recorder = lambda *_: None
    for name in ("_begin_jobs", "_finish", "_end", "_ask_repository"):
        setattr(Recorder, name, _timed(getattr(Recorder, name), spent))
    if how == TRACED:
        Recorder._end = _traced(Recorder._end, kept)
        tracemalloc.start()
    os.chdir(folder)
    try:
        cli.main(["--use-apptainer", "--cores", "2", "--quiet", "all", "--config", "apptainer_freshness=lock"])
    except SystemExit as end:
        if end.code:
            raise
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cost = Cost(cpu=usage.ru_utime + usage.ru_stime, recording=spent[0], kept=kept[0])
    Path("cost.json").write_text(json.dumps(asdict(cost)))


def _timed(method: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def timed(*args: Any) -> Any:
        begun = time.thread_time()
        try:
            return method(*args)
        finally:
            spent[0] += time.thread_time() - begun

    return timed


def _traced(end: Callable[..., Any], kept: list[int]) -> Callable[..., Any]:
    def traced(*args: Any) -> Any:
        ours = [tracemalloc.Filter(inclusive=True, filename_pattern=f"*/{name}") for name in OURS]
        snapshot = tracemalloc.take_snapshot().filter_traces(ours)
        kept[0] = sum(trace.size for trace in snapshot.traces)
        return end(*args)

    return traced


def main() -> None:
    """Print the table."""
    with (
        tempfile.TemporaryDirectory(prefix="freshness-bench-") as name,
        RealRegistry(Path(name) / "registry") as registry,
    ):
        folder = Path(name) / "workflow"
        folder.mkdir()
        push(tiny_image(), registry.host, "bench/recording", "1.0")
        image = f"docker://{registry.host}/bench/recording:1.0"
        (folder / "Snakefile").write_text(SNAKEFILE.format(image=image, jobs=JOBS, content="x" * 1000))
        environment = programs.environment(Path(name) / "home") | {"APPTAINER_NOHTTPS": "1"}
        plain, recorded = [], []
        for number in range(ROUNDS):
            for how in (PLAIN, RECORDED) if number % 2 == 0 else (RECORDED, PLAIN):
                (plain if how == PLAIN else recorded).append(one_run(folder, environment, how))
        kept = one_run(folder, environment, TRACED).kept
        newest = read_all(folder)[-1]
    cpu = statistics.median(ours.cpu / without.cpu for without, ours in zip(plain, recorded, strict=True))
    share = statistics.median(cost.recording / cost.cpu for cost in recorded)
    table(
        f"Recording: {JOBS} short jobs, {ROUNDS} rounds, medians, CPU time of the main process alone",
        [
            ("not recorded", "recorded", "ratio", "spent in recording", "of all", "kept for 10,000 jobs"),
            (
                f"{statistics.median(cost.cpu for cost in plain):.2f} s",
                f"{statistics.median(cost.cpu for cost in recorded):.2f} s",
                f"{cpu:.4f}",
                f"{statistics.median(cost.recording for cost in recorded) * 1000:.0f} ms",
                f"{share:.2%}",
                f"{kept * 10_000 / JOBS / 1024:.0f} KiB",
            ),
        ],
    )
    print(f"\nThe last record has {len(newest.jobs)} jobs, and its problems are: {newest.problem or 'none'}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measured(*sys.argv[1:])
    else:
        main()
