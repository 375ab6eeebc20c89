"""How the pins of a main process reach the processes of its jobs: as one more ``--config`` entry.

Snakemake puts the ``--config`` entries of the main process into the command of every job, whatever the executor, and
whether or not the job shares a file system with it. The value is text of the URL-safe base64 alphabet, so that no shell
between here and there reads anything into it: compressed JSON. Linux caps one argument of a command at 128 KiB, and
executors pass a job's whole command as one, quoted once or twice. So where the pins take more than some KiB, about 170
bytes an image, the value has the SHA-256 of a file with most of them (:mod:`.pins_file`), and only those that were met
after the file was written.

With each pin goes the SHA-256 of the image that the main process proved, and the stat key under which it was hashed.
They travel in the command of a job, or under a SHA-256 that does: any other file a container could have written.
"""

import base64
import binascii
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.common.tables import Table, read_json
from snakemake_apptainer_freshness.engine.config import PINS_KEY
from snakemake_apptainer_freshness.errors import FreshnessError, LocalIOError, UsageError
from snakemake_apptainer_freshness.freshness import FileHash
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.pinned import Pinned, pinned_form
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import Mode, OnUnverified

Row = list[Any]
"""What is said of one reference."""

_PREFIX: Final = "v1."
_KEYS: Final = frozenset({"mode", "on_unverified", "run", "pins", "file", "images"})
_PIN: Final = ("url", "digest")
_HASH: Final = ("sha256", "writable_by_all")
"""What a row may have more, and then perhaps a stat key or the survey of a folder."""
_KNOWN: Final = len(_PIN) + len(_HASH)
_LENGTHS: Final = (len(_PIN), _KNOWN, _KNOWN + 1, _KNOWN + len(StatKey.__slots__))
_LONGEST_JSON: Final = 64 * 1024 * 1024
_FILE: Final = re.compile(r"(?:[0-9a-f]{64})?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What a job's process has to know: the `pins` of the main process by reference, and how it is to treat images."""

    pins: Mapping[str, Pinned]
    mode: Mode
    on_unverified: OnUnverified
    hashes: Mapping[str, FileHash] = field(default_factory=dict)
    """What the images hashed to that the main process has proven, by the url that rules run."""
    run: str = ""
    """What the main process calls its run in its record; empty where it keeps none."""
    images: tuple[Path, ...] = ()
    """The image libraries of the main process."""


def encode(handover: Handover, *, file: str = "", held: Mapping[str, Row] | None = None) -> str:
    """Return `handover` as one word, but for the rows that are `held` in the `file` of this name already.

    A file is named by the SHA-256 of its content.
    """
    rows = {reference: row for reference, row in rows_of(handover).items() if (held or {}).get(reference) != row}
    table = {"mode": handover.mode, "on_unverified": handover.on_unverified, "run": handover.run, "pins": rows}
    if handover.images:
        table |= {"images": [str(path) for path in handover.images]}
    return _PREFIX + base64.urlsafe_b64encode(_packed(table | ({"file": file} if file else {}))).decode()


def content_of(rows: Mapping[str, Row]) -> bytes:
    """Return what a file that holds `rows` has in it."""
    return _packed(rows)


def rows_of(handover: Handover) -> dict[str, Row]:
    """Return a row a reference: its url and digest, then what its image hashed to, and under which stat key."""
    rows: dict[str, Row] = {}
    for reference, pin in sorted(handover.pins.items()):
        row: Row = [pin.url, str(pin.digest or "")]
        if (known := handover.hashes.get(pin.url)) is not None:
            key = astuple(known.stat) if known.stat is not None else ((known.survey,) if known.survey else ())
            row += [known.sha256, known.writable_by_all, *key]
        rows[reference] = row
    return rows


def decode(text: str, read: Callable[[str], bytes]) -> Handover:
    """Return the handover that :func:`encode` made `text` of; `read` gives the content of the file of a SHA-256.

    Raises
    ------
    UsageError
        where `text` is not such a word, the file is not the one that it names, or a pin is none that may stand in a
        rule.
    LocalIOError
        what `read` raises.
    """
    try:
        packed = base64.b64decode(_word(text), altchars=b"-_", validate=True)
        table = Table(read_json(_unpacked(packed)), _KEYS, optional=("file", "images"))
        rows = {**dict(_rows(_from_file(table.text("file"), read))), **dict(_rows(table))}
        return Handover(
            pins={text: _pinned(text, row.text("url"), row.text("digest")) for text, row in rows.items()},
            hashes={row.text("url"): _hash(row) for row in rows.values() if "sha256" in row.values},
            mode=table.member("mode", Mode),
            on_unverified=table.member("on_unverified", OnUnverified),
            run=table.name("run") if table.text("run") else "",
            images=tuple(map(Path, table.texts("images"))) if "images" in table.values else (),
        )
    except LocalIOError:
        raise
    except FreshnessError as error:
        raise _damaged(error.message) from None
    except (ValueError, zlib.error, binascii.Error) as error:
        raise _damaged(str(error)) from None


def _packed(table: Mapping[str, Any]) -> bytes:
    return zlib.compress(json.dumps(table, separators=(",", ":")).encode(), 9)


def _word(text: str) -> str:
    if not text.startswith(_PREFIX):
        raise ValueError("unknown version")
    return text.removeprefix(_PREFIX)


def _unpacked(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(packed, _LONGEST_JSON)
    if not unpacker.eof:
        raise ValueError("cut short, or too large")
    return data


def _from_file(name: str, read: Callable[[str], bytes]) -> Table:
    """Return the rows in the file whose content has the SHA-256 `name`; none where there is no file."""
    if not _FILE.fullmatch(name):
        raise ValueError(f"{name!r} is no SHA-256")
    if not name:
        return Table({"pins": {}}, frozenset({"pins"}))
    content = read(name)
    if hashlib.sha256(content).hexdigest() != name:
        raise ValueError("the file of pins is not the one that the main process wrote")
    return Table({"pins": read_json(_unpacked(content))}, frozenset({"pins"}))


def _rows(table: Table) -> Iterator[tuple[str, Table]]:
    """Yield each reference with its row, whose values are without their names to be short."""
    pins = table.values["pins"]
    if not isinstance(pins, dict):
        table.refuse("pins", "must be a table")
    for reference, values in pins.items():
        if not isinstance(values, list) or len(values) not in _LENGTHS:
            table.refuse(f"pins.{reference[:80]}", "must be an url, a digest, and perhaps a hash with its stat key")
        row = dict(zip((*_PIN, *_HASH), values, strict=False))
        match values[_KNOWN:]:
            case [survey]:
                row |= {"stat": None, "survey": survey}
            case key:
                row |= {"stat": dict(zip(StatKey.__slots__, key, strict=True)) if key else None, "survey": ""}
        yield reference, Table(row, frozenset(row), at=f"pins.{reference[:80]}")


def _pinned(reference: str, url: str, digest: str) -> Pinned:
    """Return the pin, where it is what `reference` becomes when pinned: nothing else gets into a rule by this way."""
    named = parse(reference)
    if url == reference and not digest:
        return Pinned(reference=named, pinned=named)
    held_to = Digest.parse(digest)
    pinned = pinned_form(named, held_to)
    if url != pinned.text:
        raise ValueError(f"{url!r} is not the pin of {reference!r}")
    return Pinned(reference=named, pinned=pinned, digest=held_to)


def _hash(row: Table) -> FileHash:
    """Return what an image hashed to, and under which stat key, where that is to be trusted."""
    return FileHash(
        sha256=row.hex("sha256", may_be_empty=False),
        stat=StatKey.read(row, "stat"),
        writable_by_all=row.yes_or_no("writable_by_all"),
        survey=row.hex("survey"),
    )


def _damaged(problem: str) -> UsageError:
    return UsageError(
        f"the pins that the main process handed over as --config {PINS_KEY}=… are damaged: {problem}",
        hint="this entry is made by a main Snakemake process for its own jobs; never write it by hand",
    )


def hand_over(settings: Any, value: str) -> None:
    """Put `value` into the ``--config`` entries that Snakemake's ``ConfigSettings`` gives to every job from now on."""
    entries = [entry for entry in settings.config_args or [] if not entry.startswith(f"{PINS_KEY}=")]
    settings.config_args = [*entries, f"{PINS_KEY}={value}"]


class JobPins:
    """Answers from the `table` that the main process handed over, by reference, and asks no registry."""

    def __init__(self, table: Mapping[str, Pinned]) -> None:
        self._table = dict(table)

    def attempt(self, references: Iterable[str]) -> None:
        """Do nothing: the main process did it, for all rules."""

    def ensure(self, references: Iterable[str]) -> None:
        """Hold `references`, which the job of this process needs, to what was handed over.

        Raises
        ------
        UsageError
            where the main process handed over no pin for one.
        """
        for reference in references:
            self.pinned(reference)

    def pinned(self, reference: str) -> str:
        """Return what the rule that says `reference` runs.

        Raises
        ------
        UsageError
            where the main process handed over no pin for it.
        """
        if reference not in self._table:
            raise UsageError(
                f"the main process of this run pinned no image {reference}",
                hint="does a container function of this workflow give another answer each time it is called?",
            )
        return self._table[reference].url

    def table(self) -> dict[str, Pinned]:
        """Return what is run for every reference that the main process met."""
        return dict(self._table)

    def images(self) -> dict[str, Pin]:
        """Return what each image file has to be, by the url that rules run."""
        return {
            pin.url: Pin.held_to(pinned=pin.pinned, reference=pin.reference, digest=pin.digest)
            for pin in self._table.values()
            if pin.digest is not None and pin.reference.scheme.is_provable
        }


def leave_reruns_to_main(workflow: Any) -> None:
    """Make this process rerun no job for its software: the main process has decided that for all jobs.

    Snakemake builds a DAG in the process of a job, too, and looks in it at other jobs of the same rule: those that the
    main process keeps (:mod:`.rerun`) would be made again here.
    """

    def unchanged(job: Any, file: Any = None) -> Any:  # noqa: ARG001  Snakemake's signature
        return [] if file is None else False

    workflow.persistence.software_stack_changed = unchanged
