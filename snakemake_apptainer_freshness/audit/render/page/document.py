"""The page of an audit: one HTML file that opens from a mail attachment, years later, on any machine.

* **It is whole**: style, script and drawings stand in it, and it loads nothing. Its content security policy allows its
  own style and its own script, each by its SHA-256, and nothing else: no network, no form, no frame, no inline handler.
* **It needs no script to be read**; the script filters and folds.
* **Nothing from outside is trusted.** Every value is cleaned when it is printed (secrets, control characters, marks
  that turn the direction of writing, bytes that are no text: what cannot be seen becomes visible), and then escaped. A
  name is never used as an anchor, a class or a part of a script.

What stands where is decided in :mod:`.view`; the templates only draw.
"""

import base64
import functools
import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from snakemake_apptainer_freshness.audit.render.page.graph import short_name
from snakemake_apptainer_freshness.audit.render.page.view import view
from snakemake_apptainer_freshness.audit.results import Audit
from snakemake_apptainer_freshness.common.text import counted, size
from snakemake_apptainer_freshness.errors import redact
from snakemake_apptainer_freshness.freshness import DiskState, RemoteState

_TONES: Final[Mapping[str, str]] = {
    DiskState.VERIFIED: "good",
    DiskState.BOUND: "fair",
    DiskState.UNBOUND: "fair",
    DiskState.STALE: "bad",
    DiskState.ALTERED: "bad",
    DiskState.CORRUPT: "bad",
    DiskState.ABSENT: "unknown",
    RemoteState.CURRENT: "good",
    RemoteState.MOVED: "moved",
    RemoteState.UNTAGGED: "fair",
    RemoteState.LOST: "bad",
    RemoteState.UNREACHABLE: "unknown",
    RemoteState.UNCHECKED: "unknown",
    "finished": "good",
    "failed": "bad",
    "interrupted": "fair",
    "running": "moved",
}
"""Which of the five shapes stands beside a word; one that is not here is unknown."""

_VISIBLE: Final = str.maketrans({"\n": "\\n", "\t": "\\t"})


def render(audit: Audit) -> str:
    """Return the page, as text that can be written as UTF-8."""
    environment = _environment()
    style, script = _inlined("style.css"), _inlined("filter.js")
    return environment.get_template("page.html.j2").render(
        audit=audit,
        view=view(audit),
        style=style,
        script=script,
        policy=_policy(style, script),
        version=version("snakemake-apptainer-freshness"),
    )


def visible(value: Any) -> Any:
    """Return `value` without secrets, and with a visible mark for each character that cannot be seen.

    What is not plain text passes: numbers, and markup of our own templates.
    """
    return _cleaned(str(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


@functools.lru_cache(maxsize=16_384)
def _cleaned(text: str) -> str:
    """Return the text that is shown, cached: hosts, rules, times and digests come again in thousands of rows."""
    text = redact(text)
    if text.isprintable():
        return text
    text = text.translate(_VISIBLE)
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("snakemake_apptainer_freshness.audit.render.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "counted": counted,
        "moment": moment,
        "sentence": sentence,
        "short": short_name,
        "size": size,
        "slug": lambda word: str(word).replace(" ", "-"),
        "tone": lambda word: _TONES.get(word, "unknown"),
    }
    return environment


def _inlined(name: str) -> Markup:
    """Return a file of ours, as markup: it goes into the page as it is."""
    text = (files("snakemake_apptainer_freshness.audit.render.page") / "templates" / name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704  our own file, not text from outside


def _policy(style: str, script: str) -> str:
    """Return the content security policy: this style, this script, nothing else."""
    return (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def moment(text: str) -> str:
    """Return an ISO time for a person: ``2026-03-02 08:00``."""
    return text[:16].replace("T", " ")


def sentence(text: str) -> str:
    """Return `text` as a sentence of its own."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
