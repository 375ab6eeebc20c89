"""The verdict on one output: what its record, Snakemake's metadata and the disk say of it together. Pure.

What is concluded from what, the first that applies:

* **Who made it**: the last job of ours that finished it, unless Snakemake's metadata knows a later one. A job that ran
  without us is known by Snakemake's word alone: by its container, where it names a digest (`unproven`) or a tag
  (`unattributable`); else `no record`.
* **A record is a claim**, which the maker of the folder could have written. That an image was verified counts where
  this user has proven the very file that the record names by its SHA-256, or where a seal vouches for the record.
* **What was put over the image** (a bind over one of its paths, an overlay) may have run in its place: nothing that it
  made then is better than `unproven`.
* **What cannot be believed proves nothing**: what the record of a run says that was altered afterwards is `no record`
  or `unproven`, never better.
* **The image as it was when the job ran**, by what the job's own process found, else by what the run found when it
  started: stale, altered or corrupt is `bad image`; `unbound`, or without a digest, is `unattributable`.
* **The image as it is now**, where it is the same file: if that is bad now, so is the output's verdict; if it is proven
  now, by the SHA-256 that the run recorded, then it was what it is when it ran.
* **The output as it is now**: another size or SHA-256 than its job left is `changed`; so is one that was touched where
  no SHA-256 can say that its content is the same.

The worst of these is the verdict; `why` says how it is known.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from snakemake_apptainer_freshness.audit.disk import OutputStatus, touched
from snakemake_apptainer_freshness.audit.results import OutputVerdict
from snakemake_apptainer_freshness.freshness import DiskState
from snakemake_apptainer_freshness.record.metadata import MadeBy
from snakemake_apptainer_freshness.record.run import ImageRecord, JobRecord, OutputRecord, Run

BAD: Final = frozenset({DiskState.STALE, DiskState.ALTERED, DiskState.CORRUPT})
"""What an image must not be when it runs, nor be found to be later."""

_SLACK: Final = 2.0
"""Seconds between two clocks of which one belongs to a file server."""
_ROUNDING: Final = 0.01
"""Seconds that a time may lose as a floating-point number, and on its way through a file system."""

_SEALED: Final = "and no seal of an allowed signer vouches for the record"

VerdictWithReason = tuple[OutputVerdict, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCondition:
    """One image file as it is now: a word of :class:`~.freshness.DiskState`, how it is known, and its proven SHA-256.

    `ran` is the SHA-256 that the last run recorded of it.
    """

    state: str
    detail: str
    path: str
    sha256: str = ""
    ran: str = ""

    @property
    def bad(self) -> bool:
        """Whether it is known to be bad."""
        return self.state in BAD


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """The job of ours that finished an output, and what it left."""

    run: Run
    job: JobRecord
    left: OutputRecord


def by_image(
    maker: Maker,
    image: ImageRecord | None,
    now: ImageCondition | None,
    *,
    believed: bool,
    vouched: bool,
    covered: str = "",
) -> VerdictWithReason:
    """Return what the image says of all that one job made.

    `believed` says whether its run's record can be, or was altered; `vouched` whether anything but the record says that
    the image was verified; `covered` what was put over paths of the image, in words.
    """
    judged = _by_image(maker.job, image, now, vouched=vouched)
    if covered and judged[0] is OutputVerdict.PROVEN:
        judged = OutputVerdict.UNPROVEN, f"{covered}, so something else may have run; {judged[1]}"
    if believed or judged[0] not in (OutputVerdict.PROVEN, OutputVerdict.NO_CONTAINER):
        return judged
    doubt = f"; but the record of its run was altered afterwards, so nothing proves that ({judged[1]})"
    if judged[0] is OutputVerdict.NO_CONTAINER:
        return OutputVerdict.NO_RECORD, f"its record says that no container was used{doubt}"
    return OutputVerdict.UNPROVEN, f"its record says that its image was proven{doubt}"


def _by_image(
    job: JobRecord, image: ImageRecord | None, now: ImageCondition | None, *, vouched: bool
) -> VerdictWithReason:
    if not job.image:
        if job.reference:
            return OutputVerdict.NO_CONTAINER, f"its rule names {job.reference}, and its job ran without a container"
        return OutputVerdict.NO_CONTAINER, "its rule has no container"
    if image is None:
        return OutputVerdict.UNPROVEN, f"its record names the image {job.image}, and does not say what it was"
    state = job.disk or image.disk
    was = f"was {state}" if state else "was not looked at"
    was += " just before it ran" if job.disk else " when the run started"
    if image.proof and state == image.disk:
        was += f": {image.proof}"
    if state in BAD:
        return OutputVerdict.BAD_IMAGE, f"its image {was}"
    if now is not None and now.bad and _same_file(image, now):
        return OutputVerdict.BAD_IMAGE, f"its image is {now.state} now: {now.detail}; it {was}"
    if not image.digest:
        return OutputVerdict.UNATTRIBUTABLE, f"{image.pinned} names no digest, so it cannot be said which image ran"
    return _if_sound(image, now, state, was, vouched=vouched)


def _if_sound(
    image: ImageRecord, now: ImageCondition | None, state: str, was: str, *, vouched: bool
) -> VerdictWithReason:
    """Return what is said where nothing is known to be bad: `was` says what the image was."""
    if state == DiskState.VERIFIED and vouched:
        return OutputVerdict.PROVEN, f"its image {was}"
    if now is not None and now.state == DiskState.VERIFIED and image.sha256 and now.sha256 == image.sha256:
        return OutputVerdict.PROVEN, f"its image {was}; the same file is verified now"
    if state == DiskState.VERIFIED:
        return OutputVerdict.UNPROVEN, f"its record says that its image {was}; you have not proven that file, {_SEALED}"
    if state == DiskState.UNBOUND:
        return OutputVerdict.UNATTRIBUTABLE, f"its image {was}"
    return OutputVerdict.UNPROVEN, f"its image {was}"


def _same_file(image: ImageRecord, now: ImageCondition) -> bool:
    """Return whether the file that is bad now is, as far as is known, the one that `image` describes."""
    return not image.sha256 or not now.ran or image.sha256 == now.ran


def without_us(made: MadeBy | None, *, again: bool) -> VerdictWithReason:
    """Return the verdict on an output that no run of ours made, or that was made `again` without us."""
    if made is None:
        return OutputVerdict.NO_RECORD, "no run that was recorded made it, and Snakemake's metadata does not know it"
    who = "a later run without a record made it again" if again else "a run without a record made it"
    if not made.container:
        return OutputVerdict.NO_RECORD, f"{who}, and Snakemake's metadata says of no container"
    if digest_in(made.container):
        return (
            OutputVerdict.UNPROVEN,
            f"{who}; Snakemake's metadata names {made.container}, and nothing proves what ran",
        )
    return OutputVerdict.UNATTRIBUTABLE, f"{who}; Snakemake's metadata names {made.container}, which is no digest"


def digest_in(url: str) -> str:
    """Return the digest that `url` names, such as ``sha256:…``; empty where it names none."""
    at = url.rpartition("@")[2]
    if at != url and at.startswith(("sha256:", "sha512:")):
        return at
    name = url.rpartition(":")[2] if url.startswith("library://") else ""
    return f"sha256:{name[7:]}" if name.startswith("sha256.") else ""


def changed(left: OutputRecord, seen: OutputStatus) -> str:
    """Return how the output differs from what its job left; empty where it does not, or that cannot be told."""
    if not seen.exists or seen.elsewhere or seen.folder or seen.problem or not left.mtime_ns:
        return ""
    if seen.size != left.size:
        return f"it has {seen.size} bytes now, and had {left.size} when its job ended"
    if seen.sha256:
        return "" if seen.sha256 == left.sha256 else "its SHA-256 is not the one recorded when its job ended"
    if touched(seen, left):
        return "it was touched since its job ended, and no SHA-256 was recorded that could say whether it is the same"
    return ""


def made_again(maker: Maker, made: MadeBy | None) -> bool:
    """Return whether Snakemake's metadata knows of a job that made the output after `maker` did."""
    if made is None or not maker.left.mtime_ns or made.ended <= maker.left.mtime_ns / 1e9 + _ROUNDING:
        return False
    return made.started > seconds(maker.job.ended or maker.job.started) + _SLACK


def seconds(time: str) -> float:
    """Return a recorded time as seconds since the epoch; 0 where it is none."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return 0.0


ORDER: Final[Mapping[OutputVerdict, int]] = {verdict: place for place, verdict in enumerate(OutputVerdict)}
"""The worst first."""


def worst(*judged: VerdictWithReason) -> VerdictWithReason:
    """Return the worst verdict, and why."""
    return min(judged, key=lambda verdict: ORDER[verdict[0]])
