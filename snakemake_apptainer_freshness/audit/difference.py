"""What differs between two runs: their images, what they were held to and ran on, and the outputs of both. Pure.

Outputs are compared as their jobs left them, by the SHA-256 that the records have; whether a file changed since is the
audit's own question. What one run alone made is told, for a later run seldom makes everything again.
"""

from collections.abc import Iterable, Iterator, Sequence

from snakemake_apptainer_freshness.audit.results import ChangeKind, RunChange, RunDifference
from snakemake_apptainer_freshness.common.text import be, counted
from snakemake_apptainer_freshness.errors import UsageError
from snakemake_apptainer_freshness.record.run import ImageRecord, JobResult, OutputRecord, Run

_SHOWN = 5


def chosen(text: str, runs: Sequence[Run]) -> Run:
    """Return the run of `runs`, oldest first, that `text` means: its number, or the beginning of its identifier.

    Raises
    ------
    UsageError
        where it means none or several.
    """
    word = text.strip().lower().removeprefix("run").strip()
    if word.isascii() and word.isdigit() and 1 <= int(word) <= len(runs):
        return runs[int(word) - 1]
    fitting = [run for run in runs if word and run.id.lower().startswith(word)]
    if len(fitting) == 1:
        return fitting[0]
    shown = ", ".join(run.id for run in (fitting or runs)[-_SHOWN:])
    problem = "several runs begin with" if fitting else "there is no run"
    raise UsageError(f"--diff: {problem} {text!r}", hint=f"give a number from 1 to {len(runs)}, or one of {shown}")


def difference(first: Run, second: Run) -> RunDifference:
    """Return what differs between `first` and `second`."""
    before = {image.reference: image for image in first.images}
    after = {image.reference: image for image in second.images}
    made, again = _made(first), _made(second)
    images = [change for name in sorted(before | after) if (change := _image(name, before.get(name), after.get(name)))]
    outputs = [change for name in sorted(made | again) if (change := _output(name, made.get(name), again.get(name)))]
    return RunDifference(
        first=first.id,
        second=second.id,
        first_workdir=first.workdir,
        second_workdir=second.workdir,
        changes=(*images, *_settings(first, second), *outputs),
        same_images=len(before | after) - len(images),
        same_outputs=len(made | again) - len(outputs),
    )


def sentence(difference: RunDifference) -> str:
    """Return in one sentence what `difference` says."""
    counts = [
        counted(number, kind.value)
        for kind in ChangeKind
        if (number := sum(change.kind is kind and not change.alone for change in difference.changes))
    ]
    alone = sum(change.alone for change in difference.changes)
    parts = [f"{', '.join(counts)} differ" if counts else "nothing differs"]
    parts.append(
        f"{counted(difference.same_images, 'image')} and {counted(difference.same_outputs, 'output')} are the same"
    )
    if alone:
        parts.append(f"{counted(alone, 'output')} {be(alone)} of one run alone")
    return "; ".join(parts)


def _made(run: Run) -> dict[str, OutputRecord]:
    """Return every output as the last job of `run` that finished it left it."""
    return {left.path: left for job in run.jobs if job.result is JobResult.FINISHED for left in job.outputs}


def _image(name: str, before: ImageRecord | None, after: ImageRecord | None) -> RunChange | None:
    def change(word: str, old: str, new: str) -> RunChange:
        return RunChange(kind=ChangeKind.IMAGE, subject=name, word=word, before=old, after=new)

    if before is None or after is None:
        word = "only in the second" if before is None else "only in the first"
        return change(word, _digest(before), _digest(after))
    if before.digest != after.digest:
        same = bool({before.digest, before.manifest} & {after.digest, after.manifest} - {""})
        word = "pin moved; the image for this platform is the same" if same else "pin moved"
        return change(word, _digest(before), _digest(after))
    if before.manifest and after.manifest and before.manifest != after.manifest:
        return change("another platform of the same digest", before.manifest, after.manifest)
    if before.sha256 and after.sha256 and before.sha256 != after.sha256:
        return change("same digest, another file", before.sha256, after.sha256)
    if before.disk != after.disk:
        return change("same digest, another state of its file", before.disk, after.disk)
    return None


def _digest(image: ImageRecord | None) -> str:
    return (image.digest or image.pinned) if image else ""


def _output(name: str, before: OutputRecord | None, after: OutputRecord | None) -> RunChange | None:
    def change(word: str, old: str, new: str, *, alone: bool = False) -> RunChange:
        return RunChange(kind=ChangeKind.OUTPUT, subject=name, word=word, before=old, after=new, alone=alone)

    if before is None or after is None:
        word = "made by the second alone" if before is None else "made by the first alone"
        old, new = before.sha256 if before else "", after.sha256 if after else ""
        return change(word, old, new, alone=True)
    if before.sha256 and after.sha256:
        return change("another content", before.sha256, after.sha256) if before.sha256 != after.sha256 else None
    if before.size != after.size:
        return change("another size", f"{before.size} bytes", f"{after.size} bytes")
    return change("not known whether the same: its record has no SHA-256", "", "")


def _settings(first: Run, second: Run) -> Iterator[RunChange]:
    """Yield what the runs were held to and ran on, where it differs."""
    for (subject, old), (_, new) in zip(_facts(first), _facts(second), strict=True):
        if old != new:
            yield RunChange(kind=ChangeKind.SETTING, subject=subject, word="differs", before=old, after=new)


def _facts(run: Run) -> Iterable[tuple[str, str]]:
    machine, runtime = run.machine, run.runtime
    return (
        ("mode", run.mode),
        ("options", ", ".join(f"{key}: {value}" for key, value in sorted(run.options.items()))),
        ("lock", run.lock.sha256 if run.lock else ""),
        ("configuration", run.config_sha256),
        ("command", " ".join(run.command)),
        ("Snakefile", run.source.sha256),
        ("commit", run.source.commit),
        ("uncommitted changes", {True: "yes", False: "no", None: ""}[run.source.dirty]),
        ("Snakemake", run.versions.snakemake),
        ("apptainer-freshness", run.versions.freshness),
        ("Apptainer", run.versions.apptainer),
        ("Python", run.versions.python),
        ("user", run.user),
        ("host", run.host),
        ("system", machine.system if machine else ""),
        ("kernel", machine.kernel if machine else ""),
        ("architecture", machine.architecture if machine else ""),
        ("processor", machine.cpu if machine else ""),
        ("Apptainer's arguments", " ".join(runtime.arguments) if runtime else ""),
        (
            "Apptainer's environment",
            " ".join(f"{name}={value}" for name, value in sorted(runtime.environment.items())) if runtime else "",
        ),
    )
