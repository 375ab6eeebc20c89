"""The pictures of the documents: the terminal and the page of an audit, made of what the program really prints.

``python -m tests.support.pictures`` makes them anew. The terminal is a real one (a pseudo-terminal of 100 columns) in
which the program asks a real registry: the mirror of quay.io in the picture's own registries.conf. The page is the
sample of the tests in the private Chromium.
"""

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from snakemake_apptainer_freshness.audit.render import html
from tests.support import programs
from tests.support.audits import sample
from tests.support.browser import chromium
from tests.support.images import push, tiny_image
from tests.support.registry import RealRegistry
from tests.support.rooms import ROOT

FOLDER: Final = ROOT / "docs" / "pictures"
TERMINAL: Final = "terminal.svg"
PAGE: Final = "page.png"
_COLUMNS: Final = 100
_VIEW: Final = {"width": 1400, "height": 900}
_MIRROR: Final = """\
[[registry]]
prefix = "quay.io"
location = "quay.io"
[[registry.mirror]]
location = "{host}"
insecure = true
"""
_SNAKEFILE: Final = """\
rule quantify:
    output: "quant.sf"
    container: "docker://quay.io/biocontainers/salmon:1.10.2--hecfa306_0"
    shell: "salmon --version > {output}"

rule align:
    output: "aligned.bam"
    container: "docker://quay.io/biocontainers/bwa:0.7.17"
    shell: "bwa > {output}"
"""
_BAR: Final = re.compile(r"\x1b\[\?25l.*?\x1b\[\?25h(?:\r\x1b\[1A\x1b\[2K)?", re.DOTALL)
"""A bar, from where it hides the cursor to where it has taken itself away."""
_SALMON: Final = ("biocontainers/salmon", "1.10.2--hecfa306_0")
_BWA: Final = ("biocontainers/bwa", "0.7.17")
_FORMAT: Final = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""
"""The picture, without the font that rich would have a reader fetch from elsewhere."""


def terminal(folder: Path) -> str:
    """The picture of a session, as SVG; `folder` is where it takes place."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True)
    with RealRegistry(folder / "registry") as registry:
        for text in _session(folder, registry.host):
            console.print(Text.from_ansi(text), soft_wrap=False)
    return console.export_svg(title="apptainer-freshness", code_format=_FORMAT, unique_id="terminal")


def _session(folder: Path, host: str) -> Iterator[str]:
    workflow, home = folder / "workflow", folder / "home"
    conf = home / ".config" / "containers" / "registries.conf"
    for made in (workflow, conf.parent):
        made.mkdir(parents=True)
    (workflow / "Snakefile").write_text(_SNAKEFILE, encoding="utf-8")
    conf.write_text(_MIRROR.format(host=host), encoding="utf-8")
    environment = programs.environment(home) | {"TERM": "xterm-256color", "COLUMNS": str(_COLUMNS)}
    environment |= {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    push(tiny_image(), host, *_SALMON)
    push(tiny_image("bwa"), host, *_BWA)
    yield _printed(("lock",), workflow, environment)
    push(tiny_image("updated", created="2026-03-02T00:00:00Z"), host, *_SALMON)
    yield _printed(("status",), workflow, environment)
    yield _printed(("lock", "--upgrade", "--dry-run"), workflow, environment)


def _printed(arguments: tuple[str, ...], folder: Path, environment: dict[str, str]) -> str:
    """What the program prints on a terminal, below the line that a person typed."""
    leader, follower = pty.openpty()
    command = [str(Path(sys.executable).parent / "apptainer-freshness"), *arguments]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=follower, stdout=follower, stderr=follower
    ) as program:
        os.close(follower)
        said = b"".join(iter(lambda: _read(leader), b""))
        program.wait()
    os.close(leader)
    kept = _BAR.sub("", said.decode()).replace("\r", "")
    return f"$ {' '.join(['apptainer-freshness', *arguments])}\n{kept}"


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed: that is how a terminal says so
        return b""


def page(folder: Path) -> bytes:
    """The picture of the page of an audit, as PNG; `folder` is where the page is written."""
    html.write(sample(), folder / "audit.html", {})
    with chromium() as browser:
        view = browser.new_context(viewport=_VIEW).new_page()  # type: ignore[arg-type]
        view.goto((folder / "audit.html").as_uri())
        return view.screenshot()


def make(folder: Path) -> None:
    """Make both pictures in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        (folder / TERMINAL).write_text(terminal(Path(temporary)), encoding="utf-8")
        (folder / PAGE).write_bytes(page(Path(temporary)))


if __name__ == "__main__":
    make(FOLDER)
    sys.stdout.write(f"{FOLDER.relative_to(ROOT)} is current\n")
