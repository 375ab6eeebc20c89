"""What the plugin costs a workflow before its first job: ``snakemake -n`` on 200 rules and 40 images, and a job's
start.

Each row compares two commands that differ in one thing, run in turn. *Not installed* and *installed* are two virtual
environments that share every other package.
"""

import subprocess
import sys
import tempfile
import textwrap
import venv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from snakemake_apptainer_freshness import lockfile
from snakemake_apptainer_freshness.common.files import StatKey, sha256_of
from snakemake_apptainer_freshness.engine.handover import Handover, encode
from snakemake_apptainer_freshness.freshness import FileHash
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.settings import Mode, OnUnverified
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.bench.timing import Command, Run, in_turn, median, ratio, table
from tests.support import programs
from tests.support.images import push, tiny_image
from tests.support.pins import lock_entry, run_as
from tests.support.registry import RealRegistry
from tests.support.simulator import Simulator

ROOT = Path(__file__).parents[2]
RULES, IMAGES, ROUNDS, JOB_ROUNDS = 200, 40, 9, 25
ROUND_TRIP = 0.030
OURS = ("snakemake_apptainer_freshness", "snakemake_report_plugin_apptainer_freshness")


def environments(folder: Path) -> tuple[Path, Path]:
    """The Pythons of two environments: without this project, and with its wheel."""
    pythons = []
    packages = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    wheels = folder / "wheels"
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", wheels, ROOT)
    for name in ("without", "with"):
        venv.create(folder / name, with_pip=False)
        own = next((folder / name / "lib").glob("python*/site-packages"))
        (own / "dependencies.pth").write_text(f"{packages}\n")
        pythons.append(folder / name / "bin" / "python")
    pip = (sys.executable, "-m", "pip", "--python", pythons[1], "install", "--quiet", "--no-deps")
    _run(*pip, *wheels.glob("*.whl"))
    return pythons[0], pythons[1]


def _run(*command: object) -> None:
    subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def workflow(folder: Path, registry: Simulator) -> Lock:
    """Write a workflow of 200 rules and 40 images into `folder`; gives its full lock."""
    manifest = tiny_image().manifest
    entries = []
    for number in range(IMAGES):
        digest = registry.publish(f"bench/tool{number}", "1.0", manifest)
        name = f"docker://{registry.host}/bench/tool{number}"
        entries.append(
            lock_entry(
                reference=f"{name}:1.0",
                digest=digest,
                media_type="application/vnd.oci.image.manifest.v1+json",
            )
        )
    rules = "\n".join(
        textwrap.dedent(f"""
        rule r{number}:
            output: "{number}.txt"
            container: "{entries[number % IMAGES].reference.text}"
            shell: "touch {{output}}"
        """)
        for number in range(RULES)
    )
    targets = f'rule all:\n    input: [f"{{n}}.txt" for n in range({RULES})]\n'
    (folder / "Snakefile").write_text(targets + rules)
    lock = Lock.of(entries)
    (folder / "containers.lock").write_text(lockfile.dumps(lock))
    return lock


class Bench:
    """Two environments and one workflow."""

    def __init__(self, folder: Path, registry: Simulator) -> None:
        self.without, self.installed = environments(folder)
        self.folder = folder / "workflow"
        self.folder.mkdir()
        self.lock = workflow(self.folder, registry)
        self.environment = programs.environment(folder / "home") | {"APPTAINER_NOHTTPS": "1"}
        self.rows: list[Sequence[str]] = [("what", "without", "with", "CPU ratio", "wall ratio", "more wall")]

    def command(self, python: Path, *arguments: str) -> Command:
        """Snakemake by `python` on the workflow."""
        call = [str(python), "-m", "snakemake", "--use-apptainer", "--cores", "1", "--quiet", "all", *arguments]
        return Command(arguments=call, folder=self.folder, environment=self.environment)

    def compare(self, what: str, first: Command, second: Command, *, rounds: int = ROUNDS) -> None:
        """Add a row: `second`, which does more, beside `first`."""
        plain, ours = in_turn(first.run, second.run, rounds=rounds)
        self.rows.append(
            (
                what,
                _shown(plain),
                _shown(ours),
                f"{ratio(ours, plain, 'cpu'):.3f}",
                f"{ratio(ours, plain, 'wall'):.3f}",
                f"{(median(ours, 'wall') - median(plain, 'wall')) * 1000:+.0f} ms",
            )
        )


def _shown(runs: Sequence[Run]) -> str:
    return f"{median(runs, 'wall'):.3f} s"


def job_start(bench: Bench, folder: Path) -> int:
    """Add the row for the process of a job, which runs a real image; gives the requests that these processes made.

    Without: the rule names the pinned image itself, and the flag is off. With: it names the tag, and gets the pin.
    """
    with RealRegistry(folder / "registry") as registry:
        digest = push(tiny_image(), registry.host, "bench/job", "1.0")
        name = f"docker://{registry.host}/bench/job"
        calls = {}
        for case, image in (("plain", f"{name}@{digest}"), ("pinned", f"{name}:1.0")):
            place = folder / case
            place.mkdir()
            (place / "Snakefile").write_text(
                f'rule a:\n    output: "a.txt"\n    container: "{image}"\n    shell: "touch {{output}}"\n'
            )
            prefix = ("--apptainer-prefix", str(folder / "images"))
            calls[case] = replace(bench.command(bench.installed, *prefix, "--force", "a.txt"), folder=place)
        flag = ("--config", "apptainer_freshness=lock")
        replace(calls["pinned"], arguments=[*calls["pinned"].arguments, *flag]).run()
        url = f"{name}@{digest}"
        handover = Handover(
            pins={f"{name}:1.0": run_as(f"{name}:1.0", url, digest)},
            mode=Mode.LOCK,
            on_unverified=OnUnverified.REPAIR,
            hashes={url: hash_of(image_path(folder / "images", url))},
        )
        job = ("--mode", "subprocess", "--nolock")
        plain = replace(calls["plain"], arguments=[*calls["plain"].arguments, *job])
        pins = (*job, *flag, f"apptainer_freshness_pins={encode(handover)}")
        pinned = replace(calls["pinned"], arguments=[*calls["pinned"].arguments, *pins])
        registry.clear()
        bench.compare("start of a job", plain, pinned, rounds=JOB_ROUNDS)
        return len(registry.requests())


def hash_of(image: Path) -> FileHash:
    """Return what the main process says of `image`, which it has proven."""
    with image.open("rb") as file:
        return FileHash(sha256=sha256_of(file), stat=StatKey.of(image.stat()), writable_by_all=False)


def main() -> None:
    """Print the table."""
    with (
        tempfile.TemporaryDirectory(prefix="freshness-bench-") as name,
        Simulator(latency=ROUND_TRIP) as registry,
    ):
        bench = Bench(Path(name), registry)
        dry = bench.command(bench.installed, "--dry-run")
        bench.compare("dry run, installed, flag off", bench.command(bench.without, "--dry-run"), dry)
        for mode in ("frozen", "lock"):
            flag = bench.command(bench.installed, "--dry-run", "--config", f"apptainer_freshness={mode}")
            bench.compare(f"dry run, mode {mode}, full lock", dry, flag)
        requests = job_start(bench, Path(name))
    rounds = f"{ROUNDS} rounds (of jobs {JOB_ROUNDS})"
    table(
        f"Start-up: {RULES} rules, {IMAGES} images, {rounds}, medians, round trip {ROUND_TRIP * 1000:.0f} ms",
        bench.rows,
    )
    print(f"\nRequests that the job processes made: {requests}")


if __name__ == "__main__":
    main()
