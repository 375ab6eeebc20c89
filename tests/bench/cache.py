"""What it costs to know what lies on the disk, and to fetch what is missing.

Each figure stands beside what it is compared with, measured in turn in the same run: checking beside plain hashing,
fetching beside Snakemake's own pull of the same pins from the same registry, whose round trips take 30 ms.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from snakemake_apptainer_freshness.actions.check import check
from snakemake_apptainer_freshness.actions.fetch import default_jobs
from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.freshness import DiskState
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store import facts as known
from snakemake_apptainer_freshness.store import places
from snakemake_apptainer_freshness.store.places import PlaceFact
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.bench.timing import table
from tests.support import images, pins, programs, sifs
from tests.support.digests import sha256
from tests.support.simulator import Simulator

WARM = 10_000
COLD, COLD_SIZE = 32, 32 * 1024 * 1024
PULLED, PULL_ROUNDS = 20, 3
ROUND_TRIP = 0.030
ROUNDS = 5
SETTLED = 2.1  # seconds after which a file's times are trusted

COST = """
import resource, sys, time
def cost(action):
    begun = time.perf_counter()
    action()
    seconds = time.perf_counter() - begun
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(seconds, sum(usage.ru_utime + usage.ru_stime for usage in used))
"""

SNAKEMAKE = """
from snakemake.deployment.singularity import Image
class dag:
    class workflow:
        class persistence:
            container_img_path = sys.argv[1]
def pull():
    for url in sys.argv[2:]:
        Image(url, dag, is_containerized=False).pull()
cost(pull)
"""

OURS = """
from pathlib import Path
from snakemake_apptainer_freshness.actions.fetch import fetch
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
def wanted(url):
    digest = Digest.parse(url.partition("@")[2])
    return Pin(url=url, reference=url, digest=digest, manifest=digest, platform=str(Platform.here()))
def pull():
    results = fetch(map(wanted, sys.argv[2:]), Path(sys.argv[1]))
    if any(result.fact.state != "verified" for result in results):
        sys.exit(f"not all images were fetched: {results}")
cost(pull)
"""

MEMORY = """
import sys
from pathlib import Path
from snakemake_apptainer_freshness.actions.check import check
from tests.support.pins import pin
(fact,) = check([pin()], Path(sys.argv[1]), full=True).values()
assert fact.state == "verified", fact
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def in_turn(*actions: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """The median seconds of each action, taken in turn."""
    for action in actions:
        action()
    times = [[timed(action) for action in actions] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def numbered(number: int) -> Pin:
    """One of many pins."""
    return pins.pin(replace(pins.DIGEST, hex=f"{number:064x}"))


# --- Checking ---------------------------------------------------------------------------------------------------


def warm(folder: Path, rows: list[tuple[str, ...]]) -> None:
    """Ten thousand recorded images that were not touched."""
    wanted = [numbered(number) for number in range(WARM)]
    for pin in wanted:
        image = pins.put(folder, pin, b"never opened")
        pins.record(image, pin)
        pins.settle(image)
    time.sleep(SETTLED)
    check(wanted, folder)  # makes the index
    opened = _opened(lambda: check(wanted, folder))
    seconds, stats = in_turn(lambda: check(wanted, folder), lambda: [_stats(folder, pin) for pin in wanted])
    facts = check(wanted, folder)
    if {fact.state for fact in facts.values()} != {DiskState.VERIFIED}:
        raise SystemExit("not all warm images are verified")
    rows.append(
        (
            f"check {WARM:,} recorded images, warm",
            f"{seconds:.3f} s; opens {', '.join(opened)}",
            f"{stats:.3f} s for a stat of each",
            "under 1 s",
        )
    )


def _stats(folder: Path, pin: Pin) -> None:
    os.lstat(image_path(folder, pin.url))


def _opened(action: Callable[[], object]) -> list[str]:
    """The names of the files that are opened while `action` runs."""
    names: list[str] = []
    active = True

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        if active and event == "open" and isinstance(arguments[0], str):
            names.append(Path(arguments[0]).name)

    sys.addaudithook(listen)
    action()
    active = False
    return names


def cold(folder: Path, rows: list[tuple[str, ...]]) -> None:
    """Recorded images that have to be hashed."""
    wanted = [numbered(number) for number in range(COLD)]
    block = os.urandom(COLD_SIZE)
    for pin in wanted:
        image = pins.put(folder, pin, sifs.pulled(f"{pins.REPOSITORY}@{pin.digest}", content=_squashfs(block)))
        pins.record(image, pin)
    paths = [image_path(folder, pin.url) for pin in wanted]
    ours, one, two = in_turn(
        lambda: check(wanted, folder, full=True, remember=False, jobs=2),
        lambda: [_hash(path) for path in paths],
        lambda: _in_two_threads(paths),
    )
    size = sum(path.stat().st_size for path in paths) / 1e9
    rows += [
        (f"check {COLD} images of {COLD_SIZE >> 20} MiB, cold", f"{size / ours:.2f} GB/s",
         f"one thread: {size / one:.2f} GB/s",
         f"{one / ours:.2f} x (wanted: 1.7)"),
        ("", "", f"two threads: {size / two:.2f} GB/s", f"{two / ours:.2f} x (wanted: 0.9)"),
    ]  # fmt: skip


def _squashfs(block: bytes) -> bytes:
    start = sifs.squashfs(4096, used=len(block))
    return start + block[len(start) :]


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_two_threads(paths: list[Path]) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(_hash, paths))


def facts(folder: Path, rows: list[tuple[str, ...]]) -> None:
    """What a SIF says of itself, whatever its size."""
    content = sifs.pulled(f"{pins.REPOSITORY}@{pins.DIGEST}")
    small, large = folder / "small.sif", folder / "large.sif"
    for path, size in ((small, 1 << 20), (large, 8 << 30)):
        path.write_bytes(content)
        os.truncate(path, size)
    times = [statistics.median(timed(lambda p=path: sif.read(p)) for _ in range(1000)) for path in (small, large)]
    rows.append(
        ("read a SIF's facts, 8 GiB", f"{times[1] * 1000:.3f} ms", f"1 MiB: {times[0] * 1000:.3f} ms", "under 1 ms")
    )


def memory(folder: Path, rows: list[tuple[str, ...]]) -> None:
    """Peak memory of a process that hashes an image."""
    peaks = []
    for size in (1 << 20, 1 << 30):
        place = folder / str(size)
        image = pins.put(place, pins.pin())
        os.truncate(image, size)
        _record_large(image)
        run = subprocess.run([sys.executable, "-c", MEMORY, place], capture_output=True, text=True, check=True)
        peaks.append(int(run.stdout))
    rows.append(("peak memory, hashing 1 GiB", f"{peaks[1]} MiB", f"hashing 1 MiB: {peaks[0]} MiB", "no difference"))


def _record_large(image: Path) -> None:
    made = replace(pins.fact_of(b"", pins.pin()), sha256=_hash(image), size=image.stat().st_size)
    known.keep(made)
    places.keep(image, PlaceFact.of(made))


# --- Fetching ---------------------------------------------------------------------------------------------------


def publish(registry: Simulator) -> list[str]:
    """The pins of twenty images that share their first layer, as a workflow's often do."""
    urls = []
    for number in range(PULLED):
        image = images.tiny_image(f"image {number}")
        repository = f"bench/tool{number}"
        digest = registry.publish(repository, None, image.manifest)
        for blob in image.blobs:
            registry.serve(f"/v2/{repository}/blobs/{sha256(blob)}", blob)
        urls.append(f"docker://{registry.host}/{repository}@{digest}")
    return urls


@contextmanager
def home(folder: Path, name: str) -> Iterator[Mapping[str, str]]:
    """The environment of a user with an empty cache."""
    place = folder / name
    place.mkdir()
    yield programs.environment(place) | {"APPTAINER_NOHTTPS": "1"}
    shutil.rmtree(place)


def pulls(folder: Path, rows: list[tuple[str, ...]]) -> None:
    """Snakemake's own pull of twenty pins, one after the other, beside ours: cold, and with Apptainer's cache warm.

    Each in a process of its own, timed from after its imports; the ratio is the median over pairs that ran in turn.
    """
    costs: dict[str, list[tuple[float, float]]] = {}
    with Simulator(latency=ROUND_TRIP) as registry:
        urls = publish(registry)
        for number in range(PULL_ROUNDS):
            for who, program in (("Snakemake", SNAKEMAKE), ("ours", OURS)):
                with home(folder, f"{who}{number}") as environment:
                    for heat in ("cold", "warm"):
                        prefix = folder / f"{who}-{number}-{heat}"
                        prefix.mkdir()
                        costs.setdefault(f"{who} {heat}", []).append(_cost(program, prefix, urls, environment))
                        shutil.rmtree(prefix)
    for heat, what, wish in (("cold", "cold", "1.8"), ("warm", "Apptainer's cache warm", "5")):
        theirs, ours = costs[f"Snakemake {heat}"], costs[f"ours {heat}"]
        ratio = statistics.median(their[0] / our[0] for their, our in zip(theirs, ours, strict=True))
        rows.append(
            (
                f"fetch {PULLED} images, {what}",
                _spent(ours),
                f"Snakemake: {_spent(theirs)}",
                f"{ratio:.1f} x (wanted: {wish})",
            )
        )


def _cost(program: str, prefix: Path, urls: list[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """The seconds, and processor seconds, of one pull of all `urls` into `prefix`."""
    command = [sys.executable, "-c", COST + program, prefix, *urls]
    run = subprocess.run(command, env=dict(environment), check=True, stdout=subprocess.PIPE, text=True)
    seconds, processor = map(float, run.stdout.split())
    return seconds, processor


def _spent(costs: list[tuple[float, float]]) -> str:
    seconds, processor = (statistics.median(column) for column in zip(*costs, strict=True))
    return f"{seconds:.2f} s ({processor:.1f} s of processor)"


def main() -> None:
    """Print the table."""
    rows: list[tuple[str, ...]] = [("what", "ours", "beside", "")]
    for measure in (warm, cold, facts, memory, pulls):
        with tempfile.TemporaryDirectory(prefix="freshness-bench-") as name:
            measure(Path(name), rows)
    table(
        f"Disk: medians, {len(os.sched_getaffinity(0))} cores, {default_jobs()} fetched at once, round trip 30 ms", rows
    )


if __name__ == "__main__":
    main()
