"""``apptainer-freshness audit``: which image made each output, was it proven, and what changed since."""

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from snakemake_apptainer_freshness.audit.render import Format, FormatOption, More, formats, write_lines
from snakemake_apptainer_freshness.cli import output
from snakemake_apptainer_freshness.cli.vulnerabilities import read_scans, with_vulnerabilities
from snakemake_apptainer_freshness.cli.vulnerabilities import show as show_vulnerabilities
from snakemake_apptainer_freshness.errors import LocalIOError, SourceError, UsageError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from snakemake_apptainer_freshness.audit.acknowledge import AcknowledgedFinding
    from snakemake_apptainer_freshness.audit.judge import Sealing
    from snakemake_apptainer_freshness.audit.replay import Asker
    from snakemake_apptainer_freshness.audit.results import Audit, AuditFinding, OutputAudit, RunChange, RunDifference
    from snakemake_apptainer_freshness.registry.resolver import Resolver

_SHOWN: Final = 30
"""Outputs and subjects that a terminal is shown; a pipe gets all."""
_HELP = """\
Say which image made each output, whether that is proven, and what changed since.

A WORKDIR is where Snakemake ran, with its .snakemake folder; without one it is the current folder. Several together
make one answer. Run records, Snakemake's own metadata and the files on this disk are put together; nothing is
written there but a seal with --seal, and without --replay no registry is asked.

\b
  bad image       made by an image that was bad then, or is known bad now
  changed         changed since it was made
  unattributable  made by a tag that cannot be attributed to any digest
  no record       nothing says how it was made
  unproven        made by a pinned image that was not proven
  no container    made without a container, as its rule says
  proven          made by an image that was proven to be what the lock named

Exit status: 0 where there is nothing to report, 1 where there is a finding that is at least a warning (--fail-on says
from which on), 2 where no run was recorded or a record cannot be understood, 3 where --replay could not ask a
registry that it needed.
"""


def _format_options(command: Callable[..., int]) -> Callable[..., int]:
    """`command` with the options of every format."""
    for form in reversed([*formats().values()]):
        for option in reversed((form.OPTION, *form.MORE)):
            kind: dict[str, Any] = {"type": click.Path(path_type=Path), "metavar": option.metavar}
            wanted = kind if option.metavar else {"is_flag": True}
            command = click.option(option.flag, _parameter(option), help=option.help, **wanted)(command)
    return command


def _parameter(option: FormatOption) -> str:
    return f"as_{option.flag.lstrip('-').replace('-', '_')}"


@click.command("audit", help=_HELP, short_help="Say which image made each output, and what is proven.")
@click.argument("workdirs", nargs=-1, type=click.Path(path_type=Path), metavar="[WORKDIR]...")
@click.option("--run", "run_id", metavar="ID", default="", help="Only what this run made; its beginning is enough.")
@click.option("--output", "files", multiple=True, metavar="FILE", help="Only this output, or what is in this folder.")
@click.option("--since", metavar="DATE", help="Only what was run or made since, as in 2026-03-01.")
@click.option("--replay", is_flag=True, help="Ask the registries whether it could be run again today.")
@click.option("--seal", is_flag=True, help="First sign the newest record with your SSH key.")
@click.option(
    "--seal-key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The SSH key for --seal; else the first that lies in ~/.ssh.",
)
@click.option(
    "--allowed-signers",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Who may have sealed records, as ssh-keygen(1) says: a line 'name key-type key' each.",
)
@click.option(
    "--acknowledged",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Findings that people answer for (TOML): they are shown, and are no reason for exit status 1.",
)
@click.option(
    "--diff", nargs=2, metavar="RUN1 RUN2", help="Say what differs between two runs, by number or identifier."
)
@click.option(
    "--vulnerabilities",
    "scans",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Join what trivy, grype or osv-scanner found (their JSON) to the images that ran; changes no verdict.",
)
@click.option(
    "--ignore-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Vulnerabilities that were looked at and accepted (TOML), which are counted apart.",
)
@click.option(
    "--fail-on",
    metavar="WORD",
    default="warning",
    show_default=True,
    help="From which severity (error, warning, note) or which verdict on, as in unproven, the exit status is 1.",
)
@_format_options
def command(
    workdirs: tuple[Path, ...],
    *,
    run_id: str,
    files: tuple[str, ...],
    since: str | None,
    fail_on: str,
    replay: bool,
    diff: tuple[str, str] | None,
    acknowledged: Path | None,
    seal: bool,
    seal_key: Path | None,
    allowed_signers: Path | None,
    scans: tuple[Path, ...],
    ignore_file: Path | None,
    **asked: Path | bool | None,
) -> int:
    """Say which image made each output, whether that is proven, and what changed since."""
    from snakemake_apptainer_freshness.audit.selection import Selection
    from snakemake_apptainer_freshness.audit.selection import since as time_of

    orders = list(_orders(asked))
    fails = _failing(fail_on)
    scanned = read_scans(scans, ignore_file)
    folders = [_folder(path) for path in workdirs or (Path(),)]
    selection = Selection(run=run_id, files=files, since=0.0 if since is None else time_of(since))
    sealing = _sealing(wanted=seal, key=seal_key, allowed=allowed_signers)
    entries = _acknowledgements(acknowledged)
    audit = _with_difference(_audit(folders, selection, sealing, entries, replay=replay), diff)
    audit = with_vulnerabilities(audit, scanned)
    for order in orders:
        order.format.check(audit, order.target, order.more)
    for order in orders:
        order.format.write(audit, order.target, order.more)
    if all(order.target is not None for order in orders):  # else a format has standard output
        _print(audit)
        show_vulnerabilities(audit)
    for text in audit.notes:
        output.note(f"note: {text}")
    unreachable = audit.replay is not None and audit.replay.unreachable
    return max(int(fails(audit)), SourceError.exit_status if unreachable else 0)


# --- What is asked ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """A format that is asked for, where it goes (None: to standard output), and its further options."""

    format: Format
    target: Path | None
    more: More


def _orders(asked: Mapping[str, Path | bool | None]) -> Iterator[_Order]:
    """The formats that are asked for; an option that says more about one that is not is an error."""
    for form in formats().values():
        value = asked[_parameter(form.OPTION)]
        given = {option.flag: asked[_parameter(option)] for option in form.MORE}
        more = {flag: path for flag, path in given.items() if isinstance(path, Path)}
        if value:
            yield _Order(format=form, target=value if isinstance(value, Path) else None, more=more)
        elif more:
            needed = f"{form.OPTION.flag} {form.OPTION.metavar}"
            raise UsageError(f"{', '.join(more)} needs {needed}", hint=f"add {needed}, or leave it out")


def _folder(path: Path) -> Path:
    try:
        if path.is_dir():
            return path
    except OSError as error:
        raise LocalIOError(f"cannot look at the work directory {path}: {error.strerror}") from error
    what = "is not a folder" if path.exists() else "is not there"
    raise UsageError(f"the work directory {path} {what}", hint="name the folder in which Snakemake ran")


def _failing(word: str) -> "Callable[[Audit], bool]":
    """Whether an audit has what `word` names, or worse."""
    from snakemake_apptainer_freshness.audit.results import OutputVerdict, Severity

    said = word.strip().lower().replace("-", " ")
    severities, verdicts = list(Severity), list(OutputVerdict)
    if said in severities:
        bad_severities = severities[: severities.index(Severity(said)) + 1]
        return lambda audit: any(one.severity in bad_severities and one.acknowledged is None for one in audit.findings)
    if said in verdicts:
        bad = verdicts[: verdicts.index(OutputVerdict(said)) + 1]
        return lambda audit: any(one.verdict in bad for one in audit.outputs)
    allowed = ", ".join([*severities, *(verdict.replace(" ", "-") for verdict in verdicts)])
    raise UsageError(f"--fail-on cannot be {word!r}", hint=f"it is one of {allowed}")


def _sealing(*, wanted: bool, key: Path | None, allowed: Path | None) -> "Sealing":
    """What is to be sealed, and who may have sealed."""
    from snakemake_apptainer_freshness.audit.judge import Sealing
    from snakemake_apptainer_freshness.record.seal import default_key

    if key is not None and not wanted:
        raise UsageError("--seal-key says what --seal signs with", hint="add --seal, or leave it out")
    if allowed is not None and not allowed.is_file():
        raise UsageError(f"the allowed signers {allowed} are not a file", hint="a line of it is: name key-type key")
    return Sealing(key=(key or default_key()) if wanted else None, allowed=allowed)


def _acknowledgements(file: Path | None) -> "Sequence[AcknowledgedFinding]":
    if file is None:
        return ()
    from snakemake_apptainer_freshness.audit.acknowledge import load

    return load(file)


def _audit(
    folders: list[Path],
    selection: object,
    sealing: "Sealing",
    entries: "Sequence[AcknowledgedFinding]",
    *,
    replay: bool,
) -> "Audit":
    from snakemake_apptainer_freshness.audit.judge import audit, with_acknowledgements
    from snakemake_apptainer_freshness.audit.selection import Selection
    from snakemake_apptainer_freshness.common.progress import ProgressBars
    from snakemake_apptainer_freshness.engine.persistence import read

    assert isinstance(selection, Selection)  # noqa: S101  its class is loaded late
    with _resolver(wanted=replay) as resolver, ProgressBars() as bars, _collector_paused():
        bars.begin("auditing")
        found = audit(folders, read_metadata=read, selection=selection, ask=_asker(resolver), sealing=sealing)
    for warning in resolver.warnings if resolver else ():
        output.note(f"warning: {warning}")
    return with_acknowledgements(found, entries) if entries else found


@contextmanager
def _collector_paused() -> Iterator[None]:
    """A hundred thousand values are made and all are kept: looking for garbage among them takes a fifth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _with_difference(audit: "Audit", asked: tuple[str, str] | None) -> "Audit":
    if asked is None:
        return audit
    from snakemake_apptainer_freshness.audit.difference import chosen, difference

    runs = sorted(audit.runs, key=lambda run: (run.started, run.id))
    first, second = (chosen(text, runs) for text in asked)
    return replace(audit, difference=difference(first, second))


def _resolver(*, wanted: bool) -> "AbstractContextManager[Resolver | None]":
    if not wanted:
        return nullcontext()
    from snakemake_apptainer_freshness.registry.resolver import Resolver

    return Resolver()


def _asker(resolver: "Resolver | None") -> "Asker | None":
    if resolver is None:
        return None
    from snakemake_apptainer_freshness.audit.replay import asker
    from snakemake_apptainer_freshness.image.platform import Platform

    return asker(resolver, Platform.here())


# --- What a person reads ---------------------------------------------------------------------------------------------


def _print(audit: "Audit") -> None:
    """The answer, then the counts, findings, images and outputs, the worst first; a pipe's rows say what they are."""
    if output.at_terminal(sys.stdout):
        _print_at_terminal(audit)
        return
    output.row(("answer", audit.answer))
    for verdict, count in _counts(audit):
        output.row(("count", verdict, str(count)))
    for finding in audit.findings:
        output.row(("finding", *_finding(finding)))
    if audit.difference is not None:
        _print_difference(audit.difference)
        return
    several = len(audit.workdirs) > 1
    for seal in audit.seals:
        output.row(("seal", seal.text, *([seal.workdir] if several else [])))
    for image in audit.images:
        output.row(("image", image.reference, image.now, image.now_detail, *([image.workdir] if several else [])))
    write_lines(_plain(audit.outputs, several=several), None, "outputs")


def _plain(outputs: "Iterable[OutputAudit]", *, several: bool) -> Iterator[str]:
    """A line for each output; what many of them share is cleaned once."""
    known: dict[str, str] = {}

    def clean(text: str) -> str:
        if text not in known:
            known[text] = output.clean(text)
        return known[text]

    for one in outputs:
        cells = [one.verdict.value, output.clean(one.path), clean(one.rule), clean(one.pinned), clean(one.explanation)]
        yield "\t".join(["output", *cells, *([clean(one.workdir)] if several else [])])


def _print_at_terminal(audit: "Audit") -> None:
    from snakemake_apptainer_freshness.audit.results import SENTENCES, OutputVerdict

    output.line(audit.answer)
    for seal in audit.seals:
        output.line(f"{seal.workdir}: {seal.text}" if len(audit.seals) > 1 else seal.text)
    output.line()
    output.table(
        ("outputs", "verdict"), [(f"{n:,}", f"{word}: {SENTENCES[OutputVerdict(word)]}") for word, n in _counts(audit)]
    )
    if audit.findings:
        output.line()
        output.table(("severity", "finding"), [(one.severity.value, _folded(one)) for one in audit.findings])
    if audit.difference is not None:
        output.line()
        _print_difference(audit.difference)
        return
    bad = [one for one in audit.outputs if one.verdict not in (OutputVerdict.PROVEN, OutputVerdict.NO_CONTAINER)]
    if bad:
        output.line()
        shown = [(one.verdict.value, f"{_place(one, audit)}\n  {one.explanation}") for one in bad[:_SHOWN]]
        output.table(("verdict", "output"), shown)
        if len(bad) > _SHOWN:
            output.line(f"… and {len(bad) - _SHOWN:,} more: a pipe, --json and --html have them all")
    if audit.images:
        output.line()
        output.table(
            ("disk", "image"), [(one.now or "-", f"{one.reference}\n  {one.now_detail}") for one in audit.images]
        )


def _print_difference(found: "RunDifference") -> None:
    """The differences instead of images and outputs: who asks for them looks at two runs, not at today's files."""
    from snakemake_apptainer_freshness.audit.difference import sentence

    if not output.at_terminal(sys.stdout):
        output.row(("diff", found.first, found.second, sentence(found)))
        for one in found.changes:
            output.row(("change", one.kind.value, one.word, one.subject, one.before, one.after))
        return
    output.line(f"Run {found.first} and run {found.second}: {sentence(found)}.")
    shown = [one for one in found.changes if not one.alone]
    if shown:
        output.line()
        rows = [(one.kind.value, f"{one.subject}: {one.word}\n  {_change(one)}") for one in shown[:_SHOWN]]
        output.table(("what", "difference"), rows)
    if len(shown) > _SHOWN:
        output.line(f"… and {len(shown) - _SHOWN:,} more: a pipe, --json and --html have them all")


def _change(one: "RunChange") -> str:
    return f"{one.before or '-'} → {one.after or '-'}"


def _counts(audit: "Audit") -> list[tuple[str, int]]:
    from snakemake_apptainer_freshness.audit.results import OutputVerdict

    counts = Counter(one.verdict for one in audit.outputs)
    return [(verdict.value, counts[verdict]) for verdict in OutputVerdict if counts[verdict]]


def _finding(finding: "AuditFinding") -> tuple[str, ...]:
    known = (finding.acknowledged.sentence,) if finding.acknowledged else ()
    return finding.severity.value, finding.kind.value, finding.text, *known


def _folded(finding: "AuditFinding") -> str:
    shown = [subject for subject in finding.subjects if subject not in finding.text]
    more = f"\n  … and {len(shown) - _SHOWN:,} more" if len(shown) > _SHOWN else ""
    known = [finding.acknowledged.sentence] if finding.acknowledged else []
    return "\n  ".join([f"{finding.kind.value}: {finding.text}", *known, *shown[:_SHOWN]]) + more


def _place(one: "OutputAudit", audit: "Audit") -> str:
    return one.path if len(audit.workdirs) == 1 else f"{one.workdir}/{one.path}"
