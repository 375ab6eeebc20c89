"""What a large library of images costs the start of a run, whose images lie there or in its own folder.

Both sides are whole runs of one workflow, taken in turn: 20 images, each proven before, with one job that does next to
nothing. Without: the images lie in Snakemake's own folder, and no library is named. With: that folder is empty, and
they lie among thousands of others under names of their own. The *first time* nothing is known of the library; with a
*catalog*, another workflow of this user was here before; *warm* is the same workflow again. The containers are not
started: a stand-in for ``apptainer exec`` runs the command itself.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness import lockfile
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store import facts, state
from snakemake_apptainer_freshness.store.sites import IMAGES
from tests.bench.overhead import STAND_IN
from tests.bench.timing import Command, Run, in_turn, median, ratio, table
from tests.support import pins, programs, sifs
from tests.support.digests import sha256
from tests.support.pins import fact_of, lock_entry

SIZES, WANTED, ROUNDS = (2_000, 10_000), 20, 5
CONTENTS: Final = 2_000
"""So many different images a library is made of; each further one is a hard link to one of them."""
SETTLED: Final = 3600.0
"""So long ago everything in a library was touched, in seconds: it is settled."""


def pin_of(number: int) -> Pin:
    """The pin of one image of the workflow."""
    name = f"quay.io/biocontainers/tool{number}"
    return Pin.of(lock_entry(f"docker://{name}:1.0--0", sha256(name.encode())))


def image_of(reference: str, size: int) -> bytes:
    """A small SIF that was pulled as `reference`; another `size`, another length."""
    return sifs.pulled(reference, content=sifs.squashfs(size))


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A workflow whose images lie in its own folder, or in the library `shelf`; each has a user's state of its own."""

    folder: Path
    stand_in: Path
    shelf: Path | None = None

    @property
    def state(self) -> Path:
        """What this user has proven."""
        return self.folder / "state" / "apptainer-freshness"

    def make(self, wanted: Sequence[Pin]) -> None:
        """Write the workflow, its lock and what is known of its images; put these into its folder, or the library."""
        self.folder.mkdir()
        (self.folder / "containers.lock").write_text(
            lockfile.dumps(Lock.of(lock_entry(pin.reference, pin.digest) for pin in wanted))
        )
        rules = "\n".join(
            f'rule tool{number}:\n    output: "{number}.txt"\n    container: "{pin.reference.text}"\n'
            '    shell: "echo > {output}"\n'
            for number, pin in enumerate(wanted)
        )
        (self.folder / "Snakefile").write_text(
            f'rule all:\n    input: [f"{{n}}.txt" for n in range({len(wanted)})]\n\n{rules}'
        )
        os.environ[state.VARIABLE] = str(self.state)
        for number, pin in enumerate(wanted):
            content = image_of(f"{pin.pinned.text.removeprefix('docker://')}", 20_000 + 16 * number)
            facts.keep(fact_of(content, pin, platform=Platform.here()))
            if self.shelf is not None:
                (self.shelf / f"wanted-{number}.sif").write_bytes(content)
            else:
                pins.put(self.folder / ".snakemake" / "singularity", pin, content)
        del os.environ[state.VARIABLE]

    def run(self) -> Run:
        """Run it, all jobs anew."""
        for path in self.folder.glob("*.txt"):
            path.unlink()
        environment = programs.environment(self.folder / "home") | {state.VARIABLE: str(self.state)}
        environment["PATH"] = f"{self.stand_in}:{environment['PATH']}"
        if self.shelf is not None:
            environment[IMAGES] = str(self.shelf)
        flag = ("--config", "apptainer_freshness=frozen")
        call = (sys.executable, "-m", "snakemake", "--use-apptainer", "--cores", "1", "--quiet", "all", *flag)
        return Command(arguments=call, folder=self.folder, environment=environment).run()

    def forget(self, *names: str) -> None:
        """Forget what is known of the library by `names` of folders in the state folder."""
        for name in names:
            shutil.rmtree(self.state / name, ignore_errors=True)


def contents(folder: Path) -> list[Path]:
    """Make the images that libraries are filled with."""
    folder.mkdir()
    made = []
    for number in range(CONTENTS):
        made.append(folder / str(number))
        made[-1].write_bytes(image_of(f"quay.io/biocontainers/other{number}:1.0--0", 9_000 + 16 * number))
    return made


def filled(shelf: Path, count: int, made: Sequence[Path]) -> Path:
    """Make a library with so many images that no rule names, in folders of a thousand."""
    for number in range(count):
        place = shelf / f"part{number // 1000}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"other{number}-1.0--0.sif").hardlink_to(made[number % CONTENTS])
    return shelf


def settled(shelf: Path) -> None:
    """Let the folders of a library be old enough to be trusted by their times."""
    for folder in (shelf, *(path for path in shelf.rglob("*") if path.is_dir())):
        then = folder.stat().st_mtime - SETTLED
        os.utime(folder, (then, then))


def row(what: str, plain: Workflow, ours: Workflow, *forgotten: str) -> Sequence[str]:
    """One row: the runs of `ours`, each of which has `forgotten` some of what it knows, beside those of `plain`."""

    def forgetful() -> Run:
        ours.forget(*forgotten)
        return ours.run()

    first, second = in_turn(plain.run, forgetful, rounds=ROUNDS)
    wall, cpu = ((median(second, field) - median(first, field)) * 1000 for field in ("wall", "cpu"))
    return (
        what,
        f"{median(first, 'wall'):.2f} s",
        f"{median(second, 'wall'):.2f} s",
        f"{ratio(second, first, 'cpu'):.3f}",
        f"{cpu:+.0f} ms",
        f"{wall:+.0f} ms",
        f"{median(second, 'memory') - median(first, 'memory'):+.0f} MiB",
    )


CASES: Sequence[tuple[str, Sequence[str]]] = (
    ("first time", ("catalogs", "library")),
    ("with a catalog", ("library",)),
    ("warm", ()),
)


def main() -> None:
    """Print the table."""
    rows: list[Sequence[str]] = [("library", "without", "with", "CPU ratio", "more CPU", "more wall", "more memory")]
    with tempfile.TemporaryDirectory(prefix="freshness-bench-") as name:
        folder = Path(name)
        stand_in = folder / "bin" / "apptainer"
        stand_in.parent.mkdir()
        stand_in.write_text(STAND_IN.format(program=programs.find("apptainer")))
        stand_in.chmod(0o755)
        wanted = [pin_of(number) for number in range(WANTED)]
        plain = Workflow(folder=folder / "plain", stand_in=stand_in.parent)
        plain.make(wanted)
        made = contents(folder / "contents")
        for count in SIZES:
            shelf = filled(folder / f"library{count}", count, made)
            ours = Workflow(folder=folder / f"workflow{count}", stand_in=stand_in.parent, shelf=shelf)
            ours.make(wanted)
            settled(shelf)
            rows += [row(f"{count:,} images, {what}", plain, ours, *forgotten) for what, forgotten in CASES]
    table(f"A library of images: {WANTED} images of a workflow, {ROUNDS} rounds, medians of whole runs", rows)


if __name__ == "__main__":
    main()
