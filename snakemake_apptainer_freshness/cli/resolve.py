"""``apptainer-freshness resolve``: what references point at now, as answers come in."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import click

from snakemake_apptainer_freshness.cli import output, print_error
from snakemake_apptainer_freshness.errors import FreshnessError, NotFound
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, parse

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.lockfile import Entry


@click.command("resolve", short_help="Ask what references point at now.")
@click.argument("references", nargs=-1, required=True, metavar="REFERENCE...")
@click.option("--platform", metavar="OS/ARCH", help="Print the pin of this platform's image instead of the index's.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document when all answers are there.")
def command(references: tuple[str, ...], platform: str | None, *, as_json: bool) -> int:
    """Ask what each REFERENCE points at now, and print the pinned form; '-' reads more from standard input.

    Logins and registries are those that Apptainer would use. Nothing is written.

    Exit status: 0 where each has a pin, else that of the worst error: 1 where a source has no digest, 2 where a
    REFERENCE cannot be understood, 3 where a registry or file could not be reached or has no such image.
    """
    from snakemake_apptainer_freshness.registry.resolver import Resolver

    wanted = None if platform is None else Platform.parse(platform)
    errors: list[tuple[str, FreshnessError]] = []
    parsed = list(_parse_all(_texts(references), errors))
    answers: list[tuple[Entry, Reference]] = []
    for _, error in errors:
        print_error(error)
    with Resolver() as resolver, _progress(len(parsed)) as advance:
        ask = resolver.resolve if wanted is None else resolver.resolve_with_platforms
        for reference, answer in ask(parsed):
            advance()
            try:
                pinned = _pinned(answer, wanted)
            except FreshnessError as error:
                errors.append((reference.text, error))
                print_error(error)
                continue
            answers.append(pinned)
            if not as_json:
                click.echo(f"{reference.text} → {pinned[1].text}")
        for warning in resolver.warnings:
            output.note(f"warning: {warning}")
    if as_json:
        click.echo(_document(answers, errors))
    return max((error.exit_status for _, error in errors), default=0)


def _texts(arguments: Iterable[str]) -> Iterator[str]:
    for argument in arguments:
        if argument != "-":
            yield argument
            continue
        yield from filter(None, (line.strip() for line in sys.stdin))


def _parse_all(texts: Iterable[str], errors: list[tuple[str, FreshnessError]]) -> Iterator[Reference]:
    for text in texts:
        try:
            yield parse(text)
        except FreshnessError as error:
            errors.append((text, error))


def _pinned(entry: "Entry | FreshnessError", wanted: Platform | None) -> "tuple[Entry, Reference]":
    """Return the answer `entry` and its pinned form, of the platform that is `wanted`; raises where there is none."""
    if isinstance(entry, FreshnessError):
        raise entry
    text = entry.reference.text
    if wanted is None:
        return entry, entry.pinned
    if not entry.platforms:
        click.echo(f"warning: {text}: its platform is not known; not checked", err=True)
        return entry, entry.pinned
    digest = entry.platforms.get(Platform(os=wanted.os, architecture=wanted.architecture))
    if digest is None:
        offered = ", ".join(map(str, sorted(entry.platforms)))
        raise NotFound(f"{text} has no image for {wanted}", hint=f"it has {offered}")
    return entry, entry.reference.pinned(digest)


def _document(answers: "list[tuple[Entry, Reference]]", errors: list[tuple[str, FreshnessError]]) -> str:
    """Return all answers, with the keys of the lock file."""
    images = sorted(
        (entry.to_dict() | {"pinned": pinned.text} for entry, pinned in answers), key=lambda image: image["reference"]
    )
    failed = [
        {"reference": text, "error": type(error).__name__, "message": error.message, "hint": error.hint}
        for text, error in sorted(errors, key=lambda item: item[0])
    ]
    return json.dumps({"version": 1, "image": images, "error": failed}, indent=2, ensure_ascii=False)


_ASKING: Final = "asking registries"


class _Advance(Protocol):
    def __call__(self) -> None: ...


@contextmanager
def _progress(total: int) -> Iterator[_Advance]:
    """Show how many answers are there; gives what is called for each."""
    from snakemake_apptainer_freshness.common.progress import ProgressBars

    with ProgressBars() as bars:
        bars.begin(_ASKING, total)
        yield lambda: bars.advance(_ASKING)
