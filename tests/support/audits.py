"""Runs and audits made by hand: builders of records, and two whole audits to show.

:func:`sample` is what an auditor could really get: three runs of one workflow with four rules and three images, and an
image folder where something went wrong; every verdict and every kind of finding stands in it once at least, and the
names are as hostile as file systems and registries allow. :func:`large` is the same for its size alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from typing import Any

from snakemake_apptainer_freshness.audit.results import (
    Audit,
    AuditFinding,
    Edge,
    FindingKind,
    ImageAudit,
    ImageReplay,
    ImageSighting,
    OutputAudit,
    OutputVerdict,
    Replay,
    Severity,
)
from snakemake_apptainer_freshness.record.run import (
    Ending,
    ImageRecord,
    JobRecord,
    JobResult,
    LockUsed,
    OutputRecord,
    Run,
    SignatureRecord,
    Versions,
    WorkflowSource,
)

WORKDIR = "/data/projects/rna"
PLATFORM = "linux/amd64"
SALMON = "docker://quay.io/biocontainers/salmon:1.10.2--hecfa306_0"
FASTP = "docker://quay.io/biocontainers/fastp:0.23.4--h5f740d0_0"
BUSYBOX = "docker://docker.io/library/busybox:latest"
HOSTILE = "docker://quay.io/team/<script>alert('tag')</script>:1.0"
"""No registry would have it; a record that was written by hand could."""

QUOTED = """counts/it's "quoted" & <b>bold</b>.tsv"""
SCRIPT = "counts/<script>alert(1)</script>.tsv"
RIGHT_TO_LEFT = "counts/invoice\u202egpj.tsv"
BAD_BYTES = b"counts/caf\xe9-\xff.tsv".decode(errors="surrogateescape")
LINE_BREAK = "counts/two\nlines\ttab.tsv"


def digest(word: str) -> str:
    """A digest of its own for each `word`."""
    return f"sha256:{sha256(word)}"


def sha256(word: str) -> str:
    """The SHA-256 of `word`."""
    return hashlib.sha256(word.encode(errors="surrogateescape")).hexdigest()


def pinned(reference: str, word: str) -> str:
    """`reference` at the digest of `word`."""
    return f"{reference.rpartition(':')[0]}@{digest(word)}"


def image(reference: str = SALMON, word: str = "salmon", **changes: Any) -> ImageRecord:
    """A proven image whose tag still points at its pin."""
    made = ImageRecord(
        reference=reference,
        pinned=pinned(reference, word),
        digest=digest(word),
        manifest=digest(f"{word} amd64"),
        platform=PLATFORM,
        remote="current",
        points_at=digest(word),
        asked_at="2026-03-02T08:00:01Z",
        disk="verified",
        proof="its SHA-256 is the one recorded on 2026-03-02T07:59:58Z",
        sha256=sha256(f"{word} sif"),
        size=248_512_512,
        path=f"{WORKDIR}/.snakemake/singularity/{sha256(word)[:32]}.simg",
    )
    return replace(made, **changes)


def output(path: str, **changes: Any) -> OutputRecord:
    """An output as its job left it."""
    made = OutputRecord(path=path, size=4096, mtime_ns=1_772_438_400_000_000_000, sha256=sha256(path))
    return replace(made, **changes)


def job(number: int, rule: str, *paths: str, ran: ImageRecord | None = None, **changes: Any) -> JobRecord:
    """A finished job of `rule` that ran the image `ran` and made the outputs `paths`."""
    made = JobRecord(
        id=number,
        rule=rule,
        outputs=tuple(output(path) for path in paths),
        reference=ran.reference if ran else "",
        image=ran.pinned if ran else "",
        disk=ran.disk if ran else "",
        host="node07.cluster.example",
        started="2026-03-02T08:00:05Z",
        ended="2026-03-02T08:04:41Z",
        result=JobResult.FINISHED,
    )
    return replace(made, **changes)


def run(number: int = 1, *jobs: JobRecord, images: tuple[ImageRecord, ...] = (), **changes: Any) -> Run:
    """The run `number`, in March of 2026, a day after the one before it; all is as it should be."""
    day = f"2026-03-{number + 1:02d}"
    made = Run(
        id=f"{day.replace('-', '')}T080000.000000Z",
        started=f"{day}T08:00:00Z",
        ended=f"{day}T09:12:00Z",
        ending=Ending.FINISHED,
        user="ada",
        host="login1.cluster.example",
        workdir=WORKDIR,
        command=("snakemake", "--cores", "8", "--sdm", "apptainer", "--config", "apptainer_freshness=true"),
        config_sha256=sha256("config"),
        versions=Versions(snakemake="9.27.1", freshness="0.1.0", apptainer="1.4.5", python="3.11.2"),
        source=WorkflowSource(snakefile=f"{WORKDIR}/workflow/Snakefile", commit="4f1c" * 10, dirty=False),
        mode="lock",
        options={"mode": "lock", "on_moved": "warn", "on_unverified": "repair"},
        lock=LockUsed(path=f"{WORKDIR}/workflow/containers.lock", sha256=sha256("lock"), committed=True),
        previous=sha256(f"record {number - 1}") if number > 1 else "",
        images=images,
        jobs=jobs,
        file=f"{WORKDIR}/.snakemake/apptainer-freshness/runs/{day.replace('-', '')}T080000.000000Z.json",
        sha256=sha256(f"record {number}"),
    )
    return replace(made, **changes)


def audited(path: str, verdict: OutputVerdict, why: str, made: Run, by: JobRecord, **changes: Any) -> OutputAudit:
    """The output `path` of the job `by` of the run `made`."""
    ran = next((one for one in made.images if one.pinned == by.image), None)
    found = OutputAudit(
        workdir=made.workdir,
        path=path,
        verdict=verdict,
        why=why,
        rule=by.rule,
        size=4096,
        run=made.id,
        job=by,
        reference=by.reference,
        pinned=by.image,
        digest=ran.digest if ran else "",
        manifest=ran.manifest if ran else "",
        sif_sha256=ran.sha256 if ran else "",
        made_at=by.ended,
        host=by.host,
    )
    return replace(found, **changes)


def sighting(made: Run, ran: ImageRecord) -> ImageSighting:
    """The image `ran` in the run `made`."""
    return ImageSighting(
        run=made.id,
        at=made.started,
        digest=ran.digest,
        remote=ran.remote,
        points_at=ran.points_at,
        disk=ran.disk,
        proof=ran.proof,
        sha256=ran.sha256,
        jobs=sum(one.image == ran.pinned for one in made.jobs),
        signatures=ran.signatures,
    )


def sample() -> Audit:
    """A realistic audit with everything in it once at least."""
    fastp = image(FASTP, "fastp")
    busybox = image(
        BUSYBOX, "busybox", pinned=BUSYBOX, digest="", manifest="", remote="unchecked", points_at="", asked_at="",
        disk="unbound", proof="it was pulled by a tag, docker.io/library/busybox:latest", sha256="",
    )  # fmt: skip
    bound = image(disk="bound", proof="its label says that it was pulled by its digest")
    moved = image(remote="moved", points_at=digest("salmon new"))
    newer = image(SALMON, "salmon new", proof="untouched since its SHA-256 was checked")
    signed = SignatureRecord(by="<img src=x onerror=alert(4)>", digest=digest("<script>"), signature=sha256("signed"))
    hostile = image(
        HOSTILE, "<script>", proof="<img src=x onerror=alert(2)>", remote_detail="\u202e\"'&<", signatures=(signed,)
    )

    first = run(
        1,
        job(1, "trim", "trimmed/a.fq", "trimmed/b.fq", ran=fastp, wildcards={"sample": "a"}),
        job(2, "quantify", "quants/a.sf", "quants/b.sf", ran=bound, wildcards={"sample": "a"}),
        job(3, "count", QUOTED, SCRIPT, RIGHT_TO_LEFT, BAD_BYTES, LINE_BREAK, ran=hostile),
        images=(bound, fastp, hostile),
    )
    second = run(
        2,
        job(1, "quantify", "quants/c.sf", ran=moved, wildcards={"sample": "c"}, attempt=2),
        job(2, "plot", "plots/summary.pdf", ran=busybox, host=""),
        job(3, "report", "report/index.html"),
        images=(moved, busybox),
        lock=LockUsed(path=f"{WORKDIR}/workflow/containers.lock", sha256=sha256("lock 2"), committed=False),
        source=WorkflowSource(snakefile=f"{WORKDIR}/workflow/Snakefile", commit="4f1c" * 10, dirty=True),
        ended="",
        ending=Ending.UNKNOWN,
        problem="it has no end: the run was killed, or its machine stopped",
    )
    third = run(
        3,
        job(1, "quantify", "quants/d.sf", ran=newer, wildcards={"sample": "d"}),
        job(2, "trim", "trimmed/late.fq", ran=fastp, ended="", result=JobResult.RUNNING),
        images=(newer, fastp),
        mode="update",
        ended="",
        ending=Ending.RUNNING,
        previous=sha256("somebody else's record"),
    )
    outputs = _outputs(first, second, third)
    counts = {word: sum(one.verdict is word for one in outputs) for word in OutputVerdict}
    return Audit(
        made_at="2026-11-23T10:00:00Z",
        workdirs=(WORKDIR,),
        answer=(
            f"{counts[OutputVerdict.PROVEN]} of {len(outputs)} outputs were made by a proven image; "
            f"{counts[OutputVerdict.BAD_IMAGE]} by one that was bad then or is known bad now."
        ),
        runs=(first, second, third),
        images=_images(first, second, third),
        outputs=outputs,
        findings=_findings(first, second, third),
        edges=tuple(
            Edge(workdir=WORKDIR, before=before, after=after)
            for before, after in (("trim", "quantify"), ("quantify", "count"), ("count", "plot"), ("plot", "report"))
        ),
        numbers={(WORKDIR, one.id): number for number, one in enumerate((first, second, third), start=1)},
        replay=Replay(
            possible=False,
            because=f"the digest of {SALMON} is no longer served, and its image is not on this disk either",
        ),
        notes=(
            "whether the lock of 1 run was committed is not known: it lies in no repository",
            "1 record of Snakemake's metadata cannot be read: .snakemake/metadata/Y291bnRz",
        ),
    )


def _outputs(first: Run, second: Run, third: Run) -> tuple[OutputAudit, ...]:
    trim, quantify, count = first.jobs
    late, plot, report = second.jobs
    proven = "the image was verified when the run started: its SHA-256 is the one recorded on 2026-03-02T07:59:58Z"
    hostile = [
        audited(path, OutputVerdict.PROVEN, proven, first, count, inputs=("quants/a.sf", "quants/b.sf"))
        for path in (QUOTED, SCRIPT, RIGHT_TO_LEFT, BAD_BYTES, LINE_BREAK)
    ]
    altered = "its image was verified when it ran, but the file is altered now"
    made = [
        audited("trimmed/a.fq", OutputVerdict.BAD_IMAGE, altered, first, trim, inputs=("reads/a.fq",)),
        audited("trimmed/b.fq", OutputVerdict.BAD_IMAGE, altered, first, trim, exists=False, size=0),
        audited("quants/a.sf", OutputVerdict.CHANGED, "its SHA-256 is not the one recorded when its job ended", first,
                quantify, inputs=("trimmed/a.fq",)),
        audited("quants/b.sf", OutputVerdict.UNPROVEN, "its image was bound: its label says that it was "
                "pulled by its digest",
                first, quantify, inputs=("trimmed/b.fq",)),
        *hostile,
        audited("quants/c.sf", OutputVerdict.PROVEN, proven, second, late, inputs=("trimmed/a.fq",),
                affected_by=("trimmed/a.fq",)),
        audited("plots/summary.pdf", OutputVerdict.UNATTRIBUTABLE, f"it was made by {BUSYBOX}, a tag without a digest",
                second, plot, inputs=(QUOTED,)),
        audited("report/index.html", OutputVerdict.NO_CONTAINER, "its rule has no container", second, report,
                inputs=("plots/summary.pdf",)),
        audited("quants/d.sf", OutputVerdict.PROVEN, proven, third, third.jobs[0], inputs=("trimmed/a.fq",)),
        OutputAudit(workdir=WORKDIR, path="legacy/old.txt", verdict=OutputVerdict.NO_RECORD, rule="legacy", size=17,
                    why="no run that we recorded made it; Snakemake's metadata says no container",
                    made_at="2025-12-24T18:00:00Z"),
    ]  # fmt: skip
    order = list(OutputVerdict)
    return tuple(sorted(made, key=lambda one: (order.index(one.verdict), one.workdir, one.path)))


def _images(first: Run, second: Run, third: Run) -> tuple[ImageAudit, ...]:
    bound, fastp, hostile = first.images
    moved, busybox = second.images
    newer, _ = third.images
    return (
        ImageAudit(workdir=WORKDIR, reference=FASTP, rules=("trim",), outputs=2, now="altered",
                   now_detail="its SHA-256 is no longer the one recorded on 2026-03-02T07:59:58Z",
                   sightings=(sighting(first, fastp), sighting(third, fastp)),
                   replay=ImageReplay(digest=fastp.digest, served=True, same_platform=True, on_disk=False)),
        ImageAudit(workdir=WORKDIR, reference=SALMON, rules=("quantify",), outputs=4, now="absent",
                   now_detail="no such file",
                   sightings=(sighting(first, bound), sighting(second, moved), sighting(third, newer)),
                   replay=ImageReplay(digest=newer.digest, served=False, same_platform=None, on_disk=False,
                                      detail="the registry says that it does not exist")),
        ImageAudit(workdir=WORKDIR, reference=BUSYBOX, rules=("plot",), outputs=1, now="unbound",
                   now_detail="it was pulled by a tag", sightings=(sighting(second, busybox),)),
        ImageAudit(workdir=WORKDIR, reference=HOSTILE, rules=("count",), outputs=5, now="verified",
                   now_detail="untouched since its SHA-256 was checked", sightings=(sighting(first, hostile),),
                   replay=ImageReplay(digest=hostile.digest, served=None, same_platform=None, on_disk=True,
                                      detail="</td><script>alert(3)</script>")),
    )  # fmt: skip


def _findings(first: Run, second: Run, third: Run) -> tuple[AuditFinding, ...]:
    def found(kind: FindingKind, severity: Severity, text: str, *subjects: str) -> AuditFinding:
        return AuditFinding(kind=kind, severity=severity, text=text, workdir=WORKDIR, subjects=subjects)

    error, warning, note = Severity.ERROR, Severity.WARNING, Severity.NOTE
    return (
        found(FindingKind.BAD_IMAGE, error, f"the file of {FASTP} is altered: its SHA-256 is "
              "no longer the recorded one",
              "trimmed/a.fq", "trimmed/b.fq"),
        found(FindingKind.OUTPUT_CHANGED, error, "1 output changed since it was made", "quants/a.sf"),
        found(FindingKind.CHAIN_BROKEN, error, f"the record before run {third.id} was altered or removed", third.id),
        found(FindingKind.RECORD_DAMAGED, error, f"the record of run {second.id} is cut short", second.id),
        found(FindingKind.FOREIGN_RECORD, error, "the record of run 20260101T000000.000000Z was made in /data/other",
              "20260101T000000.000000Z"),
        found(FindingKind.NOT_REPEATABLE, error, f"the digest of {SALMON} is no longer served, "
              "and it is not on this disk",
              SALMON),
        found(FindingKind.MIXED_DIGESTS, warning, "the outputs of rule quantify were made with 2 digests",
              "quants/a.sf", "quants/b.sf", "quants/c.sf", "quants/d.sf"),
        found(FindingKind.PIN_MOVED, warning, f"the pin of {SALMON} moved between runs {second.id} and {third.id}",
              SALMON),
        found(FindingKind.LOCK_NOT_COMMITTED, warning, "1 run used a lock that was never committed", second.id),
        found(FindingKind.RUN_UNFINISHED, warning, f"the record of run {second.id} has no end", second.id),
        found(FindingKind.UNATTRIBUTABLE, warning, f"1 output of rule plot was made by {BUSYBOX}, "
              "a tag without a digest",
              "plots/summary.pdf"),
        found(FindingKind.NO_RECORD, warning, "nothing says how 1 output was made", "legacy/old.txt"),
        found(FindingKind.UNPROVEN, warning, "1 output of rule quantify was made by an image that was not proven",
              "quants/b.sf"),
        found(FindingKind.OUTPUT_MISSING, warning, "1 recorded output is no longer there", "trimmed/b.fq"),
        found(FindingKind.RUN_UNDER_WAY, note, f"run {third.id} still goes on", third.id),
    )  # fmt: skip


def large(outputs: int = 10_000) -> Audit:
    """An audit of so many outputs, of 50 runs and four rules; one in a thousand is of each bad verdict."""
    images = [image(reference, word) for reference, word in ((SALMON, "salmon"), (FASTP, "fastp"))]
    runs = [run(number % 27 + 1, images=tuple(images), id=f"20260302T080000.{number:06d}Z") for number in range(50)]
    made = []
    for number in range(outputs):
        ran = images[number % 2]
        path = f"results/sample{number // 4:06d}/part{number % 4}.tsv"
        by = job(number, f"rule{number % 4}", path, ran=ran, wildcards={"sample": f"sample{number // 4:06d}"})
        verdict = list(OutputVerdict)[number % 1000] if number % 1000 < len(OutputVerdict) - 1 else OutputVerdict.PROVEN
        made.append(audited(path, verdict, f"it is {verdict}", runs[number % 50], by))
    empty = sample()
    return replace(
        empty,
        runs=tuple(runs),
        outputs=tuple(made),
        images=tuple(
            ImageAudit(
                workdir=WORKDIR,
                reference=ran.reference,
                rules=tuple(f"rule{number}" for number in range(4)),
                outputs=outputs // 2,
                now="verified",
                sightings=tuple(sighting(one, ran) for one in runs),
            )
            for ran in images
        ),
        answer=f"{sum(one.verdict is OutputVerdict.PROVEN for one in made)} of {outputs} outputs "
        "were made by a proven image",
    )


def with_digest(image: ImageRecord, word: str, **changes: Any) -> ImageRecord:
    """The same image under another digest, whose file is gone."""
    other = digest(word)
    return replace(
        image,
        digest=other,
        pinned=f"docker://quay.io/team/tool@{other}",
        manifest=digest(f"{word} amd64"),
        path="/gone.simg",
        **changes,
    )


def verdicts(audit: Audit) -> dict[str, str]:
    """What the audit says of each output, in words."""
    return {one.path: one.verdict.value for one in audit.outputs}


def kinds(audit: Audit) -> Counter[str]:
    """How many findings of each kind the audit has."""
    return Counter(one.kind.value for one in audit.findings)
