"""What the command line costs: its help and ``status`` beside an import of click, ``lock --check`` beside a dry run.

Each row compares two commands, run in turn in one environment, into which the wheel was installed. The dry run is
Snakemake's own, of 200 rules and 40 images, with the flag off; ``lock --check`` reads the same workflow, and its lock
is full. ``lock --check --upgrade`` asks a registry that is one round trip away for all 40 images at once.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from snakemake_apptainer_freshness import lockfile
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.pin import Pin
from tests.bench.startup import IMAGES, ROUND_TRIP, RULES, environments, workflow
from tests.bench.timing import Command, in_turn, median, ratio, table
from tests.support import pins, programs
from tests.support.images import tiny_image
from tests.support.pins import lock_entry
from tests.support.simulator import Simulator

ROUNDS, HELP_ROUNDS, MANY = 9, 41, 1000

Row = tuple[str, ...]


class Bench:
    """One environment, and one workflow with a full lock."""

    def __init__(self, folder: Path, registry: Simulator) -> None:
        _, self.python = environments(folder)
        self.folder = folder / "workflow"
        self.folder.mkdir()
        self.lock = workflow(self.folder, registry)
        # the state folder is the one of this process, which writes down what is proven
        state = {"XDG_STATE_HOME": os.environ["XDG_STATE_HOME"]}
        self.environment = programs.environment(folder / "home") | {"APPTAINER_NOHTTPS": "1"} | state

    def ours(self, *arguments: str) -> Command:
        """Our command line."""
        return self._command(str(self.python.parent / "apptainer-freshness"), *arguments)

    def interpreter(self, *arguments: str) -> Command:
        """Python itself."""
        return self._command(str(self.python), *arguments)

    def snakemake(self, *arguments: str) -> Command:
        """Snakemake, quiet."""
        return self.interpreter("-m", "snakemake", "--use-apptainer", "--cores", "1", "--quiet", "all", *arguments)

    def _command(self, *arguments: str) -> Command:
        return Command(arguments=arguments, folder=self.folder, environment=self.environment)


def compare(what: str, first: Command, second: Command, *, rounds: int = ROUNDS) -> Row:
    """A row: `second` beside `first`."""
    plain, ours = in_turn(first.run, second.run, rounds=rounds)
    more = (median(ours, "wall") - median(plain, "wall")) * 1000
    return (
        what,
        f"{median(plain, 'wall'):.3f} s",
        f"{median(ours, 'wall'):.3f} s",
        f"{ratio(ours, plain, 'cpu'):.3f}",
        f"{ratio(ours, plain, 'wall'):.3f}",
        f"{more:+.0f} ms",
    )


def help_of_the_program(bench: Bench) -> Row:
    """``--help`` beside a bare ``import click``."""
    what = "--help, beside python -c 'import click'"
    return compare(what, bench.interpreter("-c", "import click"), bench.ours("--help"), rounds=HELP_ROUNDS)


def lock_check(bench: Bench) -> Row:
    """``lock --check`` beside a dry run."""
    return compare("lock --check, beside snakemake -n", bench.snakemake("--dry-run"), bench.ours("lock", "--check"))


def lock_check_upgrade(bench: Bench) -> Row:
    """``lock --check --upgrade``, which asks for every image, beside ``lock --check``, which asks for none."""
    what = f"… --upgrade, {IMAGES} images, beside lock --check"
    return compare(what, bench.ours("lock", "--check"), bench.ours("lock", "--check", "--upgrade"))


def status_offline(bench: Bench) -> Row:
    """``status --offline --json`` on a lock of 100 images beside a bare ``import click``."""
    folder = bench.folder.parent / "offline"
    locked(folder, [f"docker://quay.io/bench/tool{number}" for number in range(100)], lambda _: "sha256:" + "a" * 64)
    ours = replace(bench.ours("status", "--offline", "--json"), folder=folder)
    what = "status --offline --json, 100 images, beside python -c 'import click'"
    return compare(what, bench.interpreter("-c", "import click"), ours, rounds=HELP_ROUNDS)


def status_of_many(bench: Bench) -> Row:
    """``status`` of 1,000 recorded images, registry and disk, on loopback; beside the same offline."""
    folder = bench.folder.parent / "many"
    manifest = tiny_image().manifest
    with Simulator() as registry:
        names = [f"docker://{registry.host}/bench/tool{number}" for number in range(MANY)]
        entries = locked(
            folder, names, lambda name: registry.publish(name.partition(f"{registry.host}/")[2], "1.0", manifest)
        )
        prefix = folder / ".snakemake" / "singularity"
        for entry in entries:
            pin = Pin.of(entry)
            pins.record(pins.put(prefix, pin), pin)
        online = replace(bench.ours("status"), folder=folder)
        offline = replace(bench.ours("status", "--offline"), folder=folder)
        offline.run()  # puts the stat keys into the records
        return compare(f"status, {MANY} images, warm disk, loopback, beside --offline", offline, online)


def locked(folder: Path, names: Sequence[str], digest: Callable[[str], str]) -> Lock:
    """The lock of `names`, each with its `digest`, written into `folder`."""
    folder.mkdir()
    entries = []
    for name in names:
        pinned = digest(name)
        entries.append(
            lock_entry(
                reference=f"{name}:1.0",
                digest=pinned,
                media_type="application/vnd.oci.image.manifest.v1+json",
            )
        )
    lock = Lock.of(entries)
    (folder / "containers.lock").write_text(lockfile.dumps(lock))
    return lock


ROWS: Sequence[Callable[[Bench], Row]] = (
    help_of_the_program,
    status_offline,
    status_of_many,
    lock_check,
    lock_check_upgrade,
)


def main() -> None:
    """Print the table."""
    with (
        tempfile.TemporaryDirectory(prefix="freshness-bench-") as name,
        Simulator(latency=ROUND_TRIP) as registry,
    ):
        bench = Bench(Path(name), registry)
        rows: list[Row] = [("what", "without", "ours", "CPU ratio", "wall ratio", "more wall")]
        rows += [row(bench) for row in ROWS]
    table(f"Command line: {RULES} rules, {IMAGES} images, medians, round trip {ROUND_TRIP * 1000:.0f} ms", rows)


if __name__ == "__main__":
    main()
