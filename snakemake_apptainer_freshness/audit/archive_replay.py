"""Replay of an archive: checking, without any registry, whether each output could be made again from it alone.

First every byte is held to the checksums of the bag. Then, for each output, the record of the run that made it says
which image that was; the lock in the archive has to name it, and the archive to hold all that it is made of: each
document and layer under its own SHA-256, from the digest on. So what is said of an image is proven here. Which image
made an output, and of what, is the word of who made the archive, unless a seal of an allowed signer vouches for it.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness import lockfile as lock_format
from snakemake_apptainer_freshness.actions.image_content import Blobs
from snakemake_apptainer_freshness.actions.rebuild import recipe, refuse_incomplete
from snakemake_apptainer_freshness.audit.affected import owner
from snakemake_apptainer_freshness.audit.archive_files import missing_inputs
from snakemake_apptainer_freshness.audit.archive_layout import IMAGES, PROJECT, TABLE, ArchiveTable
from snakemake_apptainer_freshness.audit.outputs import doubted, makers_of
from snakemake_apptainer_freshness.audit.seals import SealAudit, seals
from snakemake_apptainer_freshness.audit.verdicts import Maker
from snakemake_apptainer_freshness.common.files import read_small
from snakemake_apptainer_freshness.common.text import counted, short
from snakemake_apptainer_freshness.errors import FreshnessError, InvalidArchive
from snakemake_apptainer_freshness.image import layout
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.pin import Pin, pins_of
from snakemake_apptainer_freshness.record import journal, seal
from snakemake_apptainer_freshness.record.pruning import chain
from snakemake_apptainer_freshness.record.run import ImageRecord, Run
from snakemake_apptainer_freshness.record.seal import SealState
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store.bag import Bag
from snakemake_apptainer_freshness.store.bundle_folder import BundleFolder

_NO_IMAGE: Final = "its rule needs no image"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedOutput:
    """One output: whether it could be made again from the archive alone, and how that is known, in one sentence."""

    path: str
    possible: bool
    why: str
    rule: str = ""
    reference: str = ""
    digest: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveReplay:
    """What an archive can do: its outputs, what vouches for its records, and what a person should know."""

    archive: str
    answer: str
    outputs: tuple[ArchivedOutput, ...]
    seals: SealAudit
    notes: tuple[str, ...] = ()

    @property
    def possible(self) -> bool:
        """Whether all outputs could be made again."""
        return all(output.possible for output in self.outputs)


def images_of(root: Path) -> Path:
    """Return where the unpacked bundle of the archive in `root` lies, whose files are all there.

    Raises
    ------
    InvalidArchive
        where the archive is incomplete, hostile, or none.
    """
    return Bag.of(root).path(IMAGES)


def replay(root: Path, *, allowed: Path | None, hashed: Callable[[int, int], None]) -> ArchiveReplay:
    """Return whether each output could be made again from the archive in `root` alone.

    `allowed` is a file of signers whose seals count; `hashed` is told how many bytes are checked, of how many.

    Raises
    ------
    InvalidArchive, InvalidBundle, InvalidLock
        where anything in it is not what it says; nothing in it is believed then.
    LocalIOError
        where it cannot be read.
    """
    bag = _checked(root, hashed)
    images = BundleFolder(bag.path(IMAGES))
    _hold_blobs(bag)
    if TABLE not in bag.files:
        raise InvalidArchive(f"{root} is no archive of an audit: it lacks {TABLE}", hint="see docs/audit.md")
    table = ArchiveTable.loads(read_small(bag.path(TABLE), DISK.bag_list))
    runs = journal.read_all(bag.path(PROJECT))
    sealed = seals(str(root), runs, lambda run: seal.check(run, allowed), is_checked=allowed is not None)
    judge = _Judge(bag=bag, images=images, lock=_lock(images), runs=runs, table=table, sealed=sealed)
    outputs = judge.outputs()
    return ArchiveReplay(
        archive=str(root),
        answer=_answer(outputs),
        outputs=outputs,
        seals=sealed,
        notes=tuple(_notes(bag, table, runs)),
    )


def _checked(root: Path, hashed: Callable[[int, int], None]) -> Bag:
    bag = Bag.of(root)
    total = bag.size
    for size in bag.verify():
        hashed(size, total)
    return bag


def _hold_blobs(bag: Bag) -> None:
    """Raise an error unless each blob is named by the hash that was just computed."""
    beginning = f"{IMAGES}/"
    for name, sha256 in bag.files.items():
        digest = layout.digest_of(name.removeprefix(beginning)) if name.startswith(beginning) else None
        if digest is not None and digest.hex != sha256:
            raise InvalidArchive(
                f"the archive {bag.root} cannot be used: what is there as {digest.short} is something else",
                hint="copy it again from where it came; if that is the original, do not use it",
            )


def _lock(images: BundleFolder) -> Lock:
    try:
        return lock_format.loads(images.lock.decode(), source="containers.lock of the archive")
    except UnicodeDecodeError:
        raise InvalidArchive("the archive cannot be used: its lock is not UTF-8 text", hint="copy it again") from None


@dataclass(slots=True, kw_only=True)
class _Judge:
    """Judges the outputs of one archive; what is found of an image is found once."""

    bag: Bag
    images: BundleFolder
    lock: Lock
    runs: list[Run]
    table: ArchiveTable
    sealed: SealAudit
    _known: dict[ImageRecord, str] = field(default_factory=dict)
    """What stands against an image; empty where nothing does."""

    def outputs(self) -> tuple[ArchivedOutput, ...]:
        """Return what can be said of each output, by its path."""
        makers, _ = makers_of(self.runs)
        made = {path: maker for path, maker in makers.items() if path in self.table.inputs or not maker.left.temporary}
        judged = {path: self._output(path, made.get(path)) for path in sorted({*made, *self.table.inputs})}
        lacking = missing_inputs(self.table.inputs, self.bag.files)
        bad = {path: output.why for path, output in judged.items() if not output.possible}
        bad |= {
            path: f"its input {names[0]} is not in the archive" for path, names in lacking.items() if path not in bad
        }
        bad |= _made_of(bad, self.table.inputs)
        return tuple(
            ArchivedOutput(
                path=path,
                possible=path not in bad,
                why=bad.get(path, output.why),
                rule=output.rule,
                reference=output.reference,
                digest=output.digest,
                run=output.run,
            )
            for path, output in judged.items()
        )

    def _output(self, path: str, maker: Maker | None) -> ArchivedOutput:
        """Return what the record of the output and its image say of it; its inputs are another matter."""
        if maker is None:
            return ArchivedOutput(path=path, possible=False, why="how it was made was not recorded")
        run, job = maker.run, maker.job
        image = next((record for record in run.images if record.pinned == job.image), None) if job.image else None
        problem = self._record(run) or ("" if not (job.image or job.reference) else self._image(image))
        good = "all that its image is made of is here, and proven" if job.image else _NO_IMAGE
        return ArchivedOutput(
            path=path,
            possible=not problem,
            why=problem or good,
            rule=job.rule,
            reference=job.reference,
            digest=image.digest if image else "",
            run=run.id,
        )

    def _record(self, run: Run) -> str:
        """Return what is wrong with the record of `run`; empty where nothing is."""
        broken = [seal.state for seal in self.sealed.seals if seal.run == run.id]
        if run.problem:
            return f"the record of run {run.id} is damaged: {run.problem}"
        if SealState.BROKEN in broken or run.id in doubted(self.runs, chain(self.runs)):
            return f"the record of run {run.id} was altered"
        if self.sealed.is_checked and run.id not in self.sealed.vouched:
            return f"no seal of an allowed signer vouches for the record of run {run.id}"
        return ""

    def _image(self, image: ImageRecord | None) -> str:
        """Return why what made it cannot be had from here; empty where it can."""
        if image is None or not image.digest:
            return "its image has no digest"
        if image not in self._known:
            self._known[image] = self._against(image)
        return self._known[image]

    def _against(self, image: ImageRecord) -> str:
        entry = self.lock.get(image.reference)
        if entry is None:
            return f"the lock in the archive does not name {image.reference}"
        pin = next((pin for pin in pins_of(entry) if str(pin.digest) == image.digest), None)
        if pin is None:
            return f"it was made with {short(image.digest)}, and the lock in the archive names {entry.digest.short}"
        if image.platform not in ("", str(pin.platform)):
            return f"it was made on {image.platform}, and this machine is {pin.platform}"
        try:
            manifest = self._complete(pin)
        except (NotComparable, FreshnessError) as error:
            reason = error.message if isinstance(error, FreshnessError) else str(error)
            return f"its image is not whole in the archive: {reason}"
        if image.manifest and manifest and image.manifest != manifest:
            return f"it was made with {short(image.manifest)}, and its digest leads to {short(manifest)} here"
        return ""

    def _complete(self, pin: Pin) -> str:
        """See that all that the image of `pin` is made of is here; its manifest, where it has one.

        Raises
        ------
        NotComparable, FreshnessError
            where something is missing or else.
        """
        made_of = recipe(pin, self.images)
        refuse_incomplete(made_of, self.images.size_of)
        if made_of.content is None:  # what was learnt earlier of an index here, another machine does not know
            Blobs(pin=pin, registry=self.images, cache=None).document(pin.digest)
        return str(made_of.parts[0].digest) if made_of.parts else ""


def _made_of(bad: Mapping[str, str], inputs: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the outputs that are made, through others, of what cannot be made again, and of which."""
    takers: defaultdict[str, list[str]] = defaultdict(list)
    for path, names in inputs.items():
        for name in names:
            if before := owner(name, inputs):
                takers[before].append(path)
    causes: dict[str, str] = {}
    waiting = deque(bad)
    while waiting:
        before = waiting.popleft()
        for path in takers[before]:
            if path not in bad and path not in causes:
                causes[path] = f"it is made of {before}, which cannot be made again"
                waiting.append(path)
    return causes


def _notes(bag: Bag, table: ArchiveTable, runs: list[Run]) -> list[str]:
    """Return notes for the user who runs it again; they decide nothing."""
    notes = []
    recorded = runs[-1].source.sha256 if runs else ""
    there = bag.files.get(table.snakefile, "")
    if not there:
        notes.append(f"the archive has no Snakefile {table.snakefile}")
    elif recorded and recorded != there:
        notes.append(f"{table.snakefile} is not the Snakefile that the newest run recorded")
    if (ran := runs[-1].versions if runs else None) and ran.snakemake:
        with_apptainer = f" and Apptainer {ran.apptainer}" if ran.apptainer else ""
        notes.append(f"the newest run ran with Snakemake {ran.snakemake}{with_apptainer}")
    return notes


def _answer(outputs: tuple[ArchivedOutput, ...]) -> str:
    possible = sum(output.possible for output in outputs)
    if not outputs:
        return "No output is known of."
    if possible == len(outputs):
        which = "The only output" if len(outputs) == 1 else f"All {len(outputs):,} outputs"
        return f"{which} could be made again from the archive alone."
    return f"{possible:,} of {counted(len(outputs), 'output')} could be made again from the archive alone."
