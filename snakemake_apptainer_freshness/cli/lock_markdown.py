"""Changes of a lock as Markdown: the text of a pull request, for its reviewers.

An image says of itself what it likes, and a pull request is read where a mention calls people and a link looks like
ours: all that comes from outside stands in a code span, in which nothing is a mark, a mention or a link.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from snakemake_apptainer_freshness.cli import output
from snakemake_apptainer_freshness.cli.lock_report import path_from_here, summary
from snakemake_apptainer_freshness.errors import LocalIOError

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.labels import Details
    from snakemake_apptainer_freshness.actions.lock import LockDifference, LockPlan
    from snakemake_apptainer_freshness.actions.workflow import Workflow
    from snakemake_apptainer_freshness.lockfile import Entry

_SHOWN: Final = 10


def write(
    path: Path, workflow: "Workflow", planned: "LockPlan", details: "Mapping[str, Details]", *, written: bool
) -> None:
    """Write what changes into the file `path`.

    Raises
    ------
    LocalIOError
        where it cannot be written.
    """
    from snakemake_apptainer_freshness.common.files import write_atomically

    text = "\n".join(lines(workflow, planned, details, written=written)) + "\n"
    try:
        write_atomically(path, text.encode(errors="backslashreplace"))
    except OSError as error:
        raise LocalIOError(f"cannot write {path}: {error.strerror}", hint="name a file that can be written") from error


def lines(
    workflow: "Workflow", planned: "LockPlan", details: "Mapping[str, Details]", *, written: bool
) -> Iterator[str]:
    """Yield what changes: a table an image, and in a line what is the same for this platform and was not taken."""
    yield output.clean(summary(path_from_here(str(workflow.lockfile)), planned, written=written))
    for difference in planned.differences:
        yield ""
        yield from _difference(difference, details)
    if planned.held_back:
        yield ""
        yield "Not taken, since the image for this platform is the same:"
        yield ""
        yield from (f"- {code(difference.reference)}" for difference in planned.held_back)
    if planned.failures:
        yield ""
        yield "Could not be pinned:"
        yield ""
        yield from (f"- {code(text)}: {code(error.message)}" for text, error in planned.failures.items())


def _difference(difference: "LockDifference", details: "Mapping[str, Details]") -> Iterator[str]:
    yield f"### {difference.what} {code(difference.reference)}"
    yield ""
    yield "| | before | after |"
    yield "|---|---|---|"
    yield _row(
        "digest",
        str(difference.old.digest) if difference.old else "",
        str(difference.new.digest) if difference.new else "",
    )
    for platform, fate in difference.platforms.items():
        old, new = (_manifest(entry, str(platform)) for entry in (difference.old, difference.new))
        yield _row(f"{platform} {fate}", old, new)
    before, after = (details.get(entry.pinned.text) if entry else None for entry in (difference.old, difference.new))
    for name in ("created", "version", "revision"):
        if getattr(before, name, "") or getattr(after, name, ""):
            yield _row(name, getattr(before, name, ""), getattr(after, name, ""))
    if difference.uses:
        yield ""
        yield f"Rules: {_some([code(use.rule) for use in difference.uses])}"
    if difference.outputs:
        yield ""
        made = output.counted(len(difference.outputs), "output that is there was", "outputs that are there were")
        yield f"{made} made with the old one: {_some([code(made.path) for made in difference.outputs])}"


def _manifest(entry: "Entry | None", platform: str) -> str:
    manifests = {str(name): digest for name, digest in entry.platforms.items()} if entry else {}
    return str(manifests.get(platform, ""))


def _row(name: str, before: str, after: str) -> str:
    return f"| {name} | {code(before)} | {code(after)} |"


def _some(texts: list[str]) -> str:
    more = f", and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def code(text: str) -> str:
    """Return `text` as a code span that nothing in it ends; empty where there is none."""
    cleaned = output.clean(text).replace("`", "'").replace("|", "\\|")
    return f"`{cleaned}`" if cleaned else ""
