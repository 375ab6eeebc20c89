"""``apptainer-freshness audit``: which image made each output, was it proven, and what changed since."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snakemake_apptainer_freshness.audit.render import Format, FormatOption, More, formats
from snakemake_apptainer_freshness.cli import archive, output
from snakemake_apptainer_freshness.cli.vulnerabilities import read_scans, with_scans, with_vulnerabilities
from snakemake_apptainer_freshness.cli.vulnerabilities import show as show_vulnerabilities
from snakemake_apptainer_freshness.errors import LocalIOError, SourceError, UsageError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from snakemake_apptainer_freshness.actions.elsewhere import Elsewhere
    from snakemake_apptainer_freshness.audit.acknowledge import AcknowledgedFinding
    from snakemake_apptainer_freshness.audit.judge import Sealing
    from snakemake_apptainer_freshness.audit.replay import Asker
    from snakemake_apptainer_freshness.audit.results import Audit
    from snakemake_apptainer_freshness.registry.resolver import Resolver

_HELP = """\
Show which image made each output, whether that is proven, and what changed since.

A WORKDIR is where Snakemake ran, with its .snakemake folder; without one it is the current folder. Several together
make one answer. Run records, Snakemake's own metadata and the files on this disk are put together; nothing is
written there but a seal with --seal, and without --replay or --scan no registry is asked.

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
registry that it needed, or --scan could not scan an image.
"""


def _format_options(command: Callable[..., int]) -> Callable[..., int]:
    """Return `command` with the options of every format."""
    for form in reversed([*formats().values()]):
        for option in reversed((form.OPTION, *form.MORE)):
            kind: dict[str, Any] = {"type": click.Path(path_type=Path), "metavar": option.metavar}
            wanted = kind if option.metavar else {"is_flag": True}
            command = click.option(option.flag, _parameter(option), help=option.help, **wanted)(command)
    return command


def _parameter(option: FormatOption) -> str:
    return f"as_{option.flag.lstrip('-').replace('-', '_')}"


@click.command("audit", help=_HELP, short_help="Show which image made each output, and what is proven.")
@click.argument("workdirs", nargs=-1, type=click.Path(path_type=Path), metavar="[WORKDIR]...")
@click.option("--run", "run_id", metavar="ID", default="", help="Only what this run made; its beginning is enough.")
@click.option("--output", "files", multiple=True, metavar="FILE", help="Only this output, or what is in this folder.")
@click.option("--since", metavar="DATE", help="Only what was run or made since, as in 2026-03-01.")
@click.option(
    "--replay",
    is_flag=True,
    help="Ask the registries whether it could be run again today; of an archive, ask the archive alone.",
)
@click.option(
    "--archive",
    "archived",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Put all that is needed to prove and run it again into one folder (BagIt): images, workflow, records, crate.",
)
@click.option(
    "--archive-with",
    "also",
    multiple=True,
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="This file or folder of the work directory, too: inputs that git does not track, results.",
)
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
@click.option("--scan", is_flag=True, help="Run trivy, which must be on PATH, on each image that ran, by its digest.")
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
    archived: Path | None,
    also: tuple[Path, ...],
    diff: tuple[str, str] | None,
    acknowledged: Path | None,
    seal: bool,
    seal_key: Path | None,
    allowed_signers: Path | None,
    scans: tuple[Path, ...],
    scan: bool,
    ignore_file: Path | None,
    **asked: Path | bool | None,
) -> int:
    """Show which image made each output, whether that is proven, and what changed since."""
    from snakemake_apptainer_freshness.audit.selection import Selection
    from snakemake_apptainer_freshness.audit.selection import since as time_of

    wanted = archive.request(archived, also, asked["as_snakefile"])
    orders = list(_orders(asked, archived=wanted is not None))
    if any(archive.is_archive(path) for path in workdirs) and wanted is None:
        return _replay_archive(workdirs, orders, allowed_signers, replay=replay)
    fails = _failing(fail_on)
    scanned = read_scans(scans, ignore_file, now=scan)
    folders = [_folder(path) for path in workdirs or (Path(),)]
    if wanted is not None and (run_id or files or since is not None):
        raise UsageError("an archive holds all runs of a work directory", hint="leave out --run, --output and --since")
    selection = Selection(run=run_id, files=files, since=0.0 if since is None else time_of(since))
    sealing = _sealing(wanted=seal, key=seal_key, allowed=allowed_signers)
    entries = _acknowledgements(acknowledged)
    audit = _with_difference(_audit(folders, selection, sealing, entries, replay=replay), diff)
    scanned = with_scans(audit, scanned)
    audit = with_vulnerabilities(audit, scanned)
    for order in orders:
        order.format.check(audit, order.target, order.more)
    if wanted is not None:
        archive.check_request(audit, wanted)
    for order in orders:
        order.format.write(audit, order.target, order.more)
    if wanted is not None:
        archive.write_archive(audit, wanted)
    if all(order.target is not None for order in orders):  # else a format has standard output
        from snakemake_apptainer_freshness.cli.audit_text import print_audit

        print_audit(audit)
        show_vulnerabilities(audit)
    for text in audit.notes:
        output.note(f"note: {text}")
    unreachable = scanned.failed or (audit.replay is not None and audit.replay.unreachable)
    return max(int(fails(audit)), SourceError.exit_status if unreachable else 0)


# --- What is asked ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """A format that is asked for, where it goes (None: to standard output), and its further options."""

    format: Format
    target: Path | None
    more: More


def _orders(asked: Mapping[str, Path | bool | None], *, archived: bool) -> Iterator[_Order]:
    """Yield the formats that are asked for; an option that says more about one that is not is an error.

    What is `archived` has a crate in it, to which the options of crates are said as well.
    """
    for form in formats().values():
        value = asked[_parameter(form.OPTION)]
        given = {option.flag: asked[_parameter(option)] for option in form.MORE}
        more = {flag: path for flag, path in given.items() if isinstance(path, Path)}
        if value:
            yield _Order(format=form, target=value if isinstance(value, Path) else None, more=more)
        elif more and not (archived and form.OPTION.flag == "--rocrate"):
            needed = f"{form.OPTION.flag} {form.OPTION.metavar}"
            raise UsageError(f"{', '.join(more)} needs {needed}", hint=f"add {needed}, or leave it out")


def _replay_archive(folders: Sequence[Path], orders: Sequence[_Order], allowed: Path | None, *, replay: bool) -> int:
    """Print what can be made again from the one archive among `folders`; no other option goes with it."""
    if not replay or len(folders) != 1:
        raise UsageError(
            f"{folders[0]} is an archive, and no work directory",
            hint="ask what it can do with: audit --replay DIR; or audit the folder data/project in it",
        )
    as_json = [order.target is None for order in orders] == [True]
    if orders and not as_json:
        raise UsageError("of an archive there is text or --json", hint="leave the other formats out")
    _sealing(wanted=False, key=None, allowed=allowed)
    return archive.replay_archive(folders[0], allowed=allowed, as_json=as_json)


def _folder(path: Path) -> Path:
    try:
        if path.is_dir():
            return path
    except OSError as error:
        raise LocalIOError(f"cannot look at the work directory {path}: {error.strerror}") from error
    what = "is not a folder" if path.exists() else "is not there"
    raise UsageError(f"the work directory {path} {what}", hint="name the folder in which Snakemake ran")


def _failing(word: str) -> "Callable[[Audit], bool]":
    """Return whether an audit has what `word` names, or worse."""
    from snakemake_apptainer_freshness.audit.results import OutputVerdict, Severity

    normalized = word.strip().lower().replace("-", " ")
    severities, verdicts = list(Severity), list(OutputVerdict)
    if normalized in severities:
        bad_severities = severities[: severities.index(Severity(normalized)) + 1]
        return lambda audit: any(
            finding.severity in bad_severities and finding.acknowledged is None for finding in audit.findings
        )
    if normalized in verdicts:
        bad = verdicts[: verdicts.index(OutputVerdict(normalized)) + 1]
        return lambda audit: any(judged.verdict in bad for judged in audit.outputs)
    allowed = ", ".join([*severities, *(verdict.replace(" ", "-") for verdict in verdicts)])
    raise UsageError(f"--fail-on cannot be {word!r}", hint=f"it is one of {allowed}")


def _sealing(*, wanted: bool, key: Path | None, allowed: Path | None) -> "Sealing":
    """Return what is to be sealed, and who may have sealed."""
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
    from snakemake_apptainer_freshness.common.collector import collector_paused
    from snakemake_apptainer_freshness.common.progress import ProgressBars
    from snakemake_apptainer_freshness.engine.persistence import read

    assert isinstance(selection, Selection)  # noqa: S101  its class is loaded late
    with (
        _resolver(wanted=replay) as resolver,
        _mirrors(wanted=replay) as mirrors,
        ProgressBars() as bars,
        collector_paused(),
    ):
        bars.begin("auditing")
        ask = _asker(resolver, mirrors)
        answer = audit(folders, read_metadata=read, selection=selection, ask=ask, sealing=sealing)
    for warning in resolver.warnings if resolver else ():
        output.note(f"warning: {warning}")
    return with_acknowledgements(answer, entries) if entries else answer


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


def _mirrors(*, wanted: bool) -> "AbstractContextManager[Elsewhere | None]":
    if not wanted:
        return nullcontext()
    from snakemake_apptainer_freshness.actions.elsewhere import Elsewhere

    return Elsewhere()


def _asker(resolver: "Resolver | None", mirrors: "Elsewhere | None") -> "Asker | None":
    if resolver is None or mirrors is None:
        return None
    from snakemake_apptainer_freshness.audit.replay import asker
    from snakemake_apptainer_freshness.image.platform import Platform

    return asker(resolver, Platform.here(), mirrors.having)
