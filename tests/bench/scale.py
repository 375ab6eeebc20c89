"""What a thousand nodes, a million outputs and ten thousand images cost: measured at smaller sizes, with the slope.

Each figure is measured, or counted in a simulation, at three sizes; a straight line through them (least squares) gives
what one more costs and what the whole would. A size that was measured itself is not extrapolated. The simulated
registry counts requests; files, records, audits and pages are the real ones of this project. Written down in
``scale.json`` beside this module, and from there into docs/scale.md, which a test holds to it; ``python -m
tests.bench.scale --page`` does the second alone.

CPU seconds are of one core of the machine that ran it, whose load stands beside them: they are a scale, not a promise.
Requests and bytes are exact.
"""

import hashlib
import json
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.actions.check import check
from snakemake_apptainer_freshness.actions.remembered import RememberedAnswers
from snakemake_apptainer_freshness.audit import judge
from snakemake_apptainer_freshness.audit.render.page.document import render
from snakemake_apptainer_freshness.engine.handover import Handover, content_of, rows_of
from snakemake_apptainer_freshness.engine.persistence import read
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.pinned import Pinned
from snakemake_apptainer_freshness.lockfile import Entry, Lock, dumps, loads
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.record import events
from snakemake_apptainer_freshness.record.journal import folder_of, this_process
from snakemake_apptainer_freshness.record.run import OutputRecord
from snakemake_apptainer_freshness.record.writer import Journal, new_id, newest_hash
from snakemake_apptainer_freshness.registry.resolver import Resolver
from snakemake_apptainer_freshness.settings import Mode, OnUnverified
from snakemake_apptainer_freshness.store import state
from tests.bench.figures import Figure, Points, filled, table
from tests.support import audits, journals, pins, records, sifs
from tests.support.images import tiny_image
from tests.support.pins import lock_entry
from tests.support.simulator import Simulator

WRITTEN: Final = Path(__file__).with_suffix(".json")
PAGE: Final = Path(__file__).parents[2] / "docs" / "scale.md"

NODES, IMAGES, OUTPUTS, RUNS = 1_000, 10_000, 1_000_000, 10_000
"""What the page asks about."""


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds of `work`."""
    began = time.process_time()
    work()
    return time.process_time() - began


def size_of(folder: Path) -> int:
    """Return the bytes of all files in `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# --- Registries ------------------------------------------------------------------------------------------------------


def entries(registry: Simulator, count: int) -> list[Entry]:
    """So many images of a registry, as a lock has them."""
    manifest = tiny_image().manifest
    found = []
    for number in range(count):
        digest = registry.publish(f"bench/tool{number}", "1.0", manifest)
        found.append(lock_entry(f"docker://{registry.host}/bench/tool{number}:1.0", digest))
    return found


def asked_by(nodes: int, wanted: Sequence[Entry], registry: Simulator, every: float) -> int:
    """Return how many requests so many nodes make that start one after the other and share a home."""
    pins.forget_all()
    registry.clear()
    for _ in range(nodes):
        with Resolver(environ={"APPTAINER_NOHTTPS": "1"}) as resolver:
            list(RememberedAnswers(resolver, every=every).check(wanted))
    return len(registry.asked())


def registries() -> list[Figure]:
    """Count requests, and time them with a round trip of 30 ms."""
    nodes: dict[float, Points] = {300.0: [], 0.0: []}
    asked: Points = []
    seconds: Points = []
    with Simulator() as registry:
        few = entries(registry, 20)
        for every, sizes in ((300.0, (1, 100, NODES)), (0.0, (1, 10, 50))):
            nodes[every] = [(size, asked_by(size, few, registry, every)) for size in sizes]
        for size in (100, 500, 2_000):
            wanted = entries(registry, size)
            asked.append((size, asked_by(1, wanted, registry, 0.0)))
    with Simulator(latency=0.030) as registry:
        for size in (100, 300, 1_000):
            wanted = entries(registry, size)
            began = time.perf_counter()
            asked_by(1, wanted, registry, 0.0)
            seconds.append((size, time.perf_counter() - began))
    one = {"topic": "registries", "unit": "requests", "target": NODES, "per": "node"}
    return [
        Figure(what="requests of nodes with 20 images that start within five minutes", points=nodes[300.0], **one),
        Figure(what="the same where every node asks (`check_every: 0`)", points=nodes[0.0], **one),
        Figure(
            topic="registries", what="requests to ask whether tags moved", per="image", unit="requests", target=IMAGES,
            points=asked,
        ),
        Figure(
            topic="registries", what="the time that this takes, 30 ms a round trip", per="image", unit="s",
            target=IMAGES, points=seconds,
        ),
    ]  # fmt: skip


# --- Images ----------------------------------------------------------------------------------------------------------


def image_entries(count: int) -> list[Entry]:
    """So many entries of a lock that no registry has."""
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]
    manifests = [hashlib.sha256(digest.encode()).hexdigest() for digest in digests]
    return [
        lock_entry(
            f"docker://quay.io/biocontainers/tool{number}:1.0--0",
            f"sha256:{digest}",
            {"linux/amd64": f"sha256:{manifest}"},
        )
        for number, (digest, manifest) in enumerate(zip(digests, manifests, strict=True))
    ]


def proven_images(prefix: Path, count: int) -> list[Pin]:
    """So many image files that this user has proven; each small, since a check reads none."""
    wanted = []
    for number in range(count):
        digest = Digest(algorithm="sha256", hex=hashlib.sha256(str(number).encode()).hexdigest())
        one = pins.pin(digest, None)
        image = pins.put(prefix, one, sifs.pulled(one.pinned.text.removeprefix("docker://")))
        pins.record(image, one)
        pins.settle(image)
        wanted.append(one)
    return wanted


def images(folder: Path) -> list[Figure]:
    """Measure the lock, the pins of jobs, and what is known of image files."""
    lock: dict[str, Points] = {"bytes": [], "read": [], "pins": []}
    kept: dict[str, Points] = {"bytes": [], "check": [], "answers": [], "remembered": []}
    for size in (100, 1_000, IMAGES):
        made = image_entries(size)
        text = dumps(Lock.of(made))
        rewritten = {
            one.reference.text: Pinned(reference=one.reference, pinned=one.pinned, digest=one.digest) for one in made
        }
        handover = Handover(pins=rewritten, mode=Mode.LOCK, on_unverified=OnUnverified.REPAIR)
        lock["bytes"].append((size, len(text.encode())))
        lock["read"].append((size, cpu(lambda text=text: loads(text, source="x"))))  # type: ignore[misc]
        lock["pins"].append((size, len(content_of(rows_of(handover)))))
    for size in (100, 300, 1_000):
        pins.forget_all()
        wanted = proven_images(folder / f"images{size}", size)
        kept["bytes"].append((size, size_of(state.folder())))
        kept["check"].append((size, cpu(lambda: check(wanted, folder / f"images{size}"))))  # noqa: B023  now
    for size in (100, 1_000, IMAGES):
        pins.forget_all()
        made = image_entries(size)
        list(RememberedAnswers(_Current(), every=300.0).check(made))
        kept["answers"].append((size, size_of(state.folder() / "answers")))
        kept["remembered"].append((size, cpu(lambda: list(RememberedAnswers(_Silent(), every=300.0).check(made)))))  # noqa: B023
    told: dict[str, tuple[str, Points]] = {
        "the lock": ("bytes", lock["bytes"]),
        "reading it": ("s", lock["read"]),
        "the file of pins that jobs read": ("bytes", lock["pins"]),
        "what is known of image files, in the state folder": ("bytes", kept["bytes"]),
        "the first check of untouched files, which makes the index that later ones read": ("s", kept["check"]),
        "remembered answers, in the state folder": ("bytes", kept["answers"]),
        "reading these at the start of a run": ("s", kept["remembered"]),
    }
    return [
        Figure(topic="images", what=what, unit=unit, points=points, per="image", target=IMAGES)
        for what, (unit, points) in told.items()
    ]


class _Current:
    """A registry whose tags all stay."""

    warnings: tuple[str, ...] = ()

    def check(self, entries: Any) -> Any:
        """Say that each is current."""
        from snakemake_apptainer_freshness.freshness import RemoteState

        return ((entry, pins.remote_fact(RemoteState.CURRENT, entry.digest)) for entry in entries)

    def resolve(self, references: Any) -> Any:
        """Nothing is resolved here."""
        raise AssertionError(references)


class _Silent(_Current):
    """A registry that must not be asked."""

    def check(self, entries: Any) -> Any:
        """Fail."""
        raise AssertionError(entries)


# --- Outputs ---------------------------------------------------------------------------------------------------------


def written(folder: Path, outputs: int) -> tuple[float, int]:
    """Return CPU seconds and bytes of the record of a run with so many jobs of one output."""
    run = journals.numbered(0, jobs=())
    path = folder_of(folder) / f"{run.id}.json"
    journal = Journal(path, events.head(run, this_process()))
    journal.append([events.image(journals.IMAGE)])

    def work() -> None:
        for number in range(outputs):
            left = OutputRecord(
                path=f"results/sample{number:07d}/quant.sf", size=3, mtime_ns=number, sha256=journals.HEX
            )
            job = records.job(number, "quantify", left, wildcards={"sample": f"{number:07d}"})
            journal.append([events.job_started(job)])
            journal.append([events.job_ended(job)])

    seconds = cpu(work)
    journal.close()
    return seconds, path.stat().st_size


def audited(folder: Path, outputs: int) -> tuple[float, float]:
    """Return CPU seconds and peak memory (bytes) of an audit of so many outputs of ten runs, which lie there."""
    folder.mkdir()
    image = records.image(folder)
    each = outputs // 10
    runs = []
    for number in range(10):
        left = [records.output(folder, f"results/{number}/{place:06d}.tsv") for place in range(each)]
        jobs = [records.job(place, "count", one, ran=image) for place, one in enumerate(left)]
        runs.append(records.run(folder, number + 1, *jobs, images=(image,)))
    records.write(folder, *runs)
    del runs
    seconds = cpu(lambda: judge.audit([folder], read_metadata=read))
    tracemalloc.start()
    judge.audit([folder], read_metadata=read)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds, float(peak)


def outputs(folder: Path) -> list[Figure]:
    """Measure the record, the audit and the page."""
    found: dict[str, Points] = {name: [] for name in ("write", "record", "audit", "memory", "page", "make")}
    for size in (1_000, 5_000, 50_000):
        seconds, content = written(folder / f"record{size}", size)
        found["write"].append((size, seconds))
        found["record"].append((size, content))
    for size in (1_000, 3_000, 10_000):
        seconds, memory = audited(folder / f"audit{size}", size)
        found["audit"].append((size, seconds))
        found["memory"].append((size, memory))
    for size in (1_000, 3_000, 10_000):
        audit = audits.large(size)
        pages: list[str] = []
        found["make"].append((size, cpu(lambda: pages.append(render(audit)))))  # noqa: B023  now
        found["page"].append((size, len(pages[0].encode())))
    one = {"per": "output", "target": OUTPUTS}
    return [
        Figure(topic="records", what="the record of a run", unit="bytes", points=found["record"], **one),
        Figure(topic="records", what="writing it while the run goes", unit="s", points=found["write"], **one),
        Figure(topic="audit", what="an audit, without the page", unit="s", points=found["audit"], **one),
        Figure(topic="audit", what="its memory", unit="bytes", points=found["memory"], **one),
        Figure(topic="page", what="the page of an audit", unit="bytes", points=found["page"], **one),
        Figure(topic="page", what="making it", unit="s", points=found["make"], **one),
    ]


def runs(folder: Path) -> list[Figure]:
    """Measure what earlier records cost the start of a run."""
    points: Points = []
    record = journals.write(folder)
    there = 1
    for size in (100, 1_000, RUNS):
        for number in range(there, size):
            (record.parent / f"20260102T{number:06d}.000000Z.json").hardlink_to(record)
        there = size
        points.append((size, min(cpu(lambda: (new_id(record.parent), newest_hash(record.parent))) for _ in range(5))))
    return [
        Figure(
            topic="records", what="the start of a run beside earlier records", per="record", unit="s", target=RUNS,
            points=points,
        )
    ]  # fmt: skip


# --- What is written -------------------------------------------------------------------------------------------------


def load() -> tuple[str, list[Figure]]:
    """Return where and when the figures were measured, and the figures as they are written down."""
    document = json.loads(WRITTEN.read_text())
    made = [Figure(**(one | {"points": [tuple(point) for point in one["points"]]})) for one in document["figures"]]
    return document["measured"], made


def main() -> None:
    """Measure, write the figures down, and put them into the page."""
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as name:
        folder = Path(name)
        figures = [*registries(), *images(folder), *outputs(folder), *runs(folder / "runs")]
    measured = (
        f"Measured on {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load average {before:.1f} at the beginning "
        f"and {os.getloadavg()[0]:.1f} at the end."
    )
    WRITTEN.write_text(json.dumps({"measured": measured, "figures": [asdict(one) for one in figures]}, indent=1) + "\n")
    PAGE.write_text(filled(PAGE.read_text(), *load()))
    for topic in dict.fromkeys(one.topic for one in figures):
        print(f"\n{topic}\n\n{table(figures, topic)}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--page"]:
        PAGE.write_text(filled(PAGE.read_text(), *load()))
    else:
        main()
