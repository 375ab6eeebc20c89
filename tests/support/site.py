"""The pages of the documentation site that are made when it is built: hooks of MkDocs.

The start page is README.md, the changes are CHANGELOG.md; the reference has what ``--help`` says, the schemas, and the
docstrings of the names that other programs may rely on. Nothing of it is kept in the repository, so nothing is stale.
A link to a file that is no page leads to the repository.
"""

import importlib
import inspect
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
from mkdocs.structure.files import File, Files

from snakemake_apptainer_freshness import cli

ROOT: Final = Path(__file__).parents[2]
SCHEMAS: Final = ROOT / "snakemake_apptainer_freshness" / "schemas"
PUBLIC: Final = (
    "snakemake_apptainer_freshness.install",
    "snakemake_apptainer_freshness.image.reference.parse",
    "snakemake_apptainer_freshness.image.reference.Reference",
    "snakemake_apptainer_freshness.image.digest.Digest",
    "snakemake_apptainer_freshness.lockfile.loads",
    "snakemake_apptainer_freshness.lockfile.dumps",
    "snakemake_apptainer_freshness.lockfile.Lock",
    "snakemake_apptainer_freshness.freshness.compare",
    "snakemake_apptainer_freshness.freshness.decide",
    "snakemake_apptainer_freshness.registry.resolver.Resolver",
    "snakemake_apptainer_freshness.apptainer.sif.read",
)
"""The names that other programs may rely on."""
_WIDTH: Final = 100
_ELSEWHERE: Final = re.compile(r'<script src="https?://[^"]*"></script>')
"""The theme loads the helper that its search needs in a page from a file from another host; ours lies in the site."""
_HELPER: Final = """\
// Browsers start no worker for a page that was opened from a file: there the search's script runs in a hidden frame.
"use strict";
if (location.protocol === "file:") {
  const send = (data, target) => parent.postMessage(data, target || "*");
  const load = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = done;
    document.body.append(script);
  })), Promise.resolve());
  class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      addEventListener("message", (event) => {
        if (event.source === this.frame.contentWindow) {
          this.dispatchEvent(new MessageEvent("message", { data: event.data }));
        }
      });
      inside.document.open();
      inside.document.write(
        `<body><script>postMessage=${send};importScripts=${load}<\\/script><script src="${url}"><\\/script></body>`
      );
      inside.document.close();
      this.ready = new Promise((done) => { inside.onload = done; });
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() { this.frame.remove(); }
  }
  window.IFrameWorker = window.Worker = FrameWorker;  // the theme asks for the first of these names
}
"""
_LINK: Final = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the made pages, and the schemas as they are."""
    made = {
        "index.md": moved((ROOT / "README.md").read_text(encoding="utf-8"), "docs/"),
        "changes.md": moved((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), "docs/"),
        "reference/commands.md": commands(),
        "reference/schemas.md": schemas(),
        "reference/python.md": python(),
    }
    for path in sorted(SCHEMAS.glob("*.json")):
        made[f"schemas/{path.name}"] = path.read_text(encoding="utf-8")
    made["assets/worker.js"] = _HELPER
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links that leave the pages lead to the repository."""
    folder = posixpath.dirname(page.file.src_uri)

    def target(match: re.Match[str]) -> str:
        inside = posixpath.normpath(posixpath.join(folder, match[1]))
        if files.get_file_from_path(inside) is not None:
            return match[0]
        path = posixpath.normpath(posixpath.join("docs", inside))
        return f"]({config.repo_url}/blob/main/{path}{match[2] or ''})"

    return _LINK.sub(target, markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Let a page load nothing from elsewhere."""
    depth = page.file.dest_uri.count("/")
    return _ELSEWHERE.sub(f'<script src="{"../" * depth}assets/worker.js"></script>', output)


def on_post_template(output_content: str, template_name: str, config: Any) -> str:
    """Let the page for what is not there load nothing from elsewhere, either."""
    return _ELSEWHERE.sub("", output_content)


def moved(text: str, folder: str) -> str:
    """`text` of a file of the top level, with its links as they are in `folder`."""

    def target(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        if path == "CHANGELOG.md":
            return f"](changes.md{anchor})"
        return f"]({path.removeprefix(folder) if path.startswith(folder) else f'../{path}'}{anchor})"

    return _LINK.sub(target, text)


def commands() -> str:
    """What ``--help`` says, of the program and of every command."""
    parts = ["# Commands, as they help", "What `--help` prints, of every command."]
    for words, command in every_command():
        context = click.Context(command, info_name=" ".join(["apptainer-freshness", *words]), max_content_width=_WIDTH)
        context.terminal_width = _WIDTH
        parts += [f"## {' '.join(words) or 'apptainer-freshness'}", f"```text\n{command.get_help(context)}\n```"]
    return "\n\n".join(parts) + "\n"


def every_command() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The program, each command, and those in it, with the words that call them."""
    yield (), cli.program
    for name in cli.COMMANDS:
        command = cli.program.get_command(click.Context(cli.program), name)
        assert command is not None
        yield (name,), command
        for inner in getattr(command, "commands", {}).values():
            yield (name, inner.name), inner


def schemas() -> str:
    """Each schema with what it is for, and its keys."""
    parts = ["# Schemas", "JSON Schemas, for editors and for programs that read what is written."]
    for path in sorted(SCHEMAS.glob("*.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        parts += [f"## {path.name}", f"{schema.get('description', schema.get('title', ''))}"]
        parts.append(f"[The schema itself](../schemas/{path.name})")
        rows = [f"| `{key}` | {_said(value)} |" for key, value in schema.get("properties", {}).items()]
        if rows:
            parts.append("\n".join(["| key | what it is |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _said(value: Any) -> str:
    return str(value.get("description", "") if isinstance(value, dict) else "").replace("|", "\\|").replace("\n", " ")


def python() -> str:
    """The signature and the docstring of each public name."""
    parts = ["# Python", "The names that other programs may rely on. Everything else may change with any version."]
    for name in PUBLIC:
        module, _, attribute = name.rpartition(".")
        thing = getattr(importlib.import_module(module), attribute)
        signature = f"class {attribute}" if inspect.isclass(thing) else f"{attribute}{inspect.signature(thing)}"
        parts += [
            f"## {attribute}",
            f"`{module}`",
            f"```python\n{signature}\n```",
            f"```text\n{inspect.getdoc(thing)}\n```",
        ]
    return "\n\n".join(parts) + "\n"
