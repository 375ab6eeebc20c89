"""What the flag costs a large workflow: a run of 2,000 jobs and a dry run of 50,000, each with the flag off and on.

Both sides are taken in turn within one call, on the same workflow and the same images; the ratio is of CPU time, since
the machine may have other work. All jobs run in containers and do next to nothing, so that what the plugin costs weighs
as much as it can: *of the main process* is Snakemake's own time without its jobs, *with all jobs* is what a user waits
for. The containers are not started: a stand-in for ``apptainer exec`` runs the command itself, and everything else is
the real program. ``FRESHNESS_BENCH_JOBS=100,1000`` makes both smaller, to try this benchmark itself.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.timing import table
from tests.support import programs
from tests.support.images import push, tiny_image
from tests.support.registry import RealRegistry

ROOT = Path(__file__).parents[2]
RUN, DRY = map(int, os.environ.get("FRESHNESS_BENCH_JOBS", "2000,50000").split(","))
RULES = 20
ROUNDS = {"run": 1, "dry run": 2}
ALLOWED = 1.03

SNAKEFILE = """
rule all:
    input: [f"out/{{rule}}/{{n}}.txt" for rule in range({rules}) for n in range({each})]

for number in range({rules}):
    rule:
        name: f"rule{{number}}"
        output: f"out/{{number}}/{{{{n}}}}.txt"
        container: f"{image}:{{number}}"
        shell: "echo {{wildcards.n}} > {{output}}"
"""
STAND_IN = """#!/bin/bash
# exec: what comes after the image, outside of it; anything else: the real program
if [ "$1" = exec ]; then
    while [ "$1" != bash ] && [ "$1" != sh ]; do shift; done
    exec "$@"
fi
exec {program} "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one command cost: CPU seconds of its main process, those with all its children, and wall time."""

    main: float
    all: float
    wall: float


def measured(folder: str, *arguments: str) -> None:
    """Be Snakemake with `arguments`, and write down what it cost."""
    from snakemake import cli

    os.chdir(folder)
    began = time.perf_counter()
    try:
        cli.main(list(arguments))
    except SystemExit as end:
        if end.code:
            raise
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    main = own.ru_utime + own.ru_stime
    cost = Cost(main=main, all=main + others.ru_utime + others.ru_stime, wall=time.perf_counter() - began)
    Path("cost.json").write_text(json.dumps(asdict(cost)))


def one(folder: Path, environment: Mapping[str, str], *arguments: str) -> Cost:
    """The cost of one Snakemake, all jobs anew."""
    subprocess.run(["rm", "-rf", "out", ".snakemake/metadata"], cwd=folder, check=True)
    command = [sys.executable, "-m", "tests.bench.overhead", str(folder), "--use-apptainer", "--quiet", "all"]
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, check=False, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    return Cost(**json.loads((folder / "cost.json").read_text()))


def compared(folder: Path, environment: Mapping[str, str], what: str, jobs: int, *arguments: str) -> Sequence[str]:
    """The row of `what`: all its jobs with the flag off, which names the pins itself, and with it on, in turn."""
    plain, ours = [], []
    for number in range(ROUNDS[what]):
        for on in (False, True) if number % 2 == 0 else (True, False):
            where = folder / ("pinned" if on else "plain")
            flag = ("--config", f"apptainer_freshness={'lock' if on else 'off'}")
            (ours if on else plain).append(one(where, environment, *arguments, *flag))
    ratios = {
        name: min(getattr(cost, name) for cost in ours) / min(getattr(cost, name) for cost in plain)
        for name in ("main", "all", "wall")
    }
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{what} of {jobs:,} jobs",
        f"{min(cost.main for cost in plain):.1f} s",
        f"{min(cost.main for cost in ours):.1f} s",
        f"{ratios['main']:.3f}",
        f"{ratios['all']:.3f}",
        f"{ratios['wall']:.3f}",
        load,
        "yes" if ratios["all"] < ALLOWED else "NO",
    )


def workflow(folder: Path, image: str, jobs: int) -> None:
    """Write the workflow of so many `jobs`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Snakefile").write_text(SNAKEFILE.format(rules=RULES, each=jobs // RULES, image=image))


def main() -> None:
    """Print the table."""
    with (
        tempfile.TemporaryDirectory(prefix="freshness-bench-") as name,
        RealRegistry(Path(name) / "registry") as registry,
    ):
        folder = Path(name)
        environment = programs.environment(folder / "home") | {"APPTAINER_NOHTTPS": "1"}
        for number in range(RULES):
            push(tiny_image(f"tool {number}"), registry.host, "bench/overhead", str(number))
        stand_in = folder / "bin" / "apptainer"
        stand_in.parent.mkdir()
        stand_in.write_text(STAND_IN.format(program=programs.find("apptainer")))
        stand_in.chmod(0o755)
        environment["PATH"] = f"{stand_in.parent}:{environment['PATH']}"
        rows: list[Sequence[str]] = [
            ("what", "flag off", "flag on", "main process", "with all jobs", "wall", "load average", "under 3 %")
        ]
        image = f"docker://{registry.host}/bench/overhead"
        for what, jobs, arguments in (
            ("run", RUN, ("--cores", "2")),
            ("dry run", DRY, ("--cores", "2", "--dry-run")),
        ):
            for side, flag in (("plain", "off"), ("pinned", "lock")):
                workflow(folder / side, image, RULES)
                one(folder / side, environment, "--cores", "2", "--config", f"apptainer_freshness={flag}")  # its images
                workflow(folder / side, image, jobs)
            rows.append(compared(folder, environment, what, jobs, *arguments))
    table("The flag on a large workflow: CPU time, the best of each side", rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measured(*sys.argv[1:])
    else:
        main()
