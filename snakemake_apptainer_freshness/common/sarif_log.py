"""SARIF 2.1.0, the form in which code hosts and editors take findings. Values in, one JSON text out.

OASIS Standard, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0".
What is found has a place: a file, by its path relative to where the user is, and a line where it has one. Paths become
URIs byte by byte, so that a name that is not UTF-8 stays what it is. Messages are cleaned as everything that a person
sees; the programs that show them take them for plain text.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from snakemake_apptainer_freshness.errors import redact

TOOL: Final = "apptainer-freshness"
SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
VERSION: Final = "2.1.0"
LEVELS: Final = ("error", "warning", "note")
RELATED: Final = 100
"""Other places that are listed of one result; its message says how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SarifResult:
    """One finding: the `rule` that it breaks, its `level`, a sentence, and where.

    `uri` is a path (:func:`uri_of` is applied), `line` counts from 1, and is 0 where it has none. `related` are the
    paths of all else that it is about. `suppressed` says who accepted it and why, and is empty where that was not done.
    """

    rule: str
    level: str
    message: str
    uri: str = ""
    line: int = 0
    related: Sequence[str] = ()
    suppressed: str = ""


def dumps(results: Iterable[SarifResult], rules: Mapping[str, str], *, version: str) -> str:
    """Return the SARIF document of `results`; `rules` has a sentence for each rule, `version` is this program's."""
    numbers = {rule: number for number, rule in enumerate(rules)}
    driver = {
        "name": TOOL,
        "version": version,
        "rules": [{"id": rule, "shortDescription": {"text": text}} for rule, text in rules.items()],
    }
    run = {"tool": {"driver": driver}, "results": [_result(result, numbers) for result in results]}
    return json.dumps({"$schema": SCHEMA, "version": VERSION, "runs": [run]}, indent=1) + "\n"


def uri_of(path: str) -> str:
    """Return `path` as a URI reference: a relative path stays relative."""
    encoded = quote(os.fsencode(path) if _encodable(path) else path.encode(errors="backslashreplace"), safe="/")
    return f"file://{encoded}" if path.startswith("/") else encoded


def _encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:  # half of a surrogate pair, which no file system gives
        return False
    return True


def _result(result: SarifResult, numbers: Mapping[str, int]) -> dict[str, Any]:
    message = redact(" ".join(result.message.split()))
    document: dict[str, Any] = {
        "ruleId": result.rule,
        "ruleIndex": numbers[result.rule],
        "level": result.level,
        "message": {"text": message},
        "partialFingerprints": {"finding/v1": _fingerprint(result)},
    }
    if result.suppressed:
        document["suppressions"] = [{"kind": "external", "justification": redact(result.suppressed)}]
    if result.uri:
        document["locations"] = [{"physicalLocation": _place(result.uri, result.line)}]
    if result.related:
        document["relatedLocations"] = [
            {"id": number, "physicalLocation": _place(path, 0)}
            for number, path in enumerate(result.related[:RELATED], start=1)
        ]
    return document


def _place(path: str, line: int) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": uri_of(path)}}
    if line > 0:
        place["region"] = {"startLine": line}
    return place


def _fingerprint(result: SarifResult) -> str:
    """Return what makes the finding the same one in the next audit: its rule and its place."""
    text = "\0".join((result.rule, result.uri, *sorted(result.related)))
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()
