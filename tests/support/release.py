"""What a release is made of beside the package: the files that say again what pyproject.toml says, and the built files.

``python -m tests.support.release`` writes CITATION.cff, the second distribution's project file and the conda recipe
anew; a test compares them with pyproject.toml, where the address of the repository stands alone. With ``--dist`` it
builds both distributions into dist/, and there the recipe with the hash of the source distribution.
"""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.support.rooms import ROOT

CITATION: Final = ROOT / "CITATION.cff"
RECIPE: Final = ROOT / ".ci" / "conda" / "meta.yaml"
SECOND: Final = ROOT / ".ci" / "report-plugin" / "pyproject.toml"
CATALOGUED: Final = "snakemake-report-plugin-apptainer-freshness"
"""The name by which Snakemake's plugin catalog finds a report plugin."""
_CONDA_NAMES: Final = {"snakemake": "snakemake-minimal"}
"""The packages of conda that have other names than those of Python."""


def project() -> dict[str, Any]:
    """The metadata of the distribution."""
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"])


def files() -> dict[Path, str]:
    """Each file that says again what pyproject.toml says, with the text that it should have."""
    metadata = project()
    return {CITATION: citation(metadata), SECOND: second(metadata), RECIPE: recipe(metadata)}


def citation(metadata: dict[str, Any]) -> str:
    """CITATION.cff, in the Citation File Format 1.2.0; a JSON string is one of YAML."""
    values = {
        "cff-version": "1.2.0",
        "message": "If you use this software, please cite it as below.",
        "type": "software",
        "title": metadata["name"],
        "abstract": metadata["description"],
        "version": metadata["version"],
        "license": metadata["license"],
        "repository-code": metadata["urls"]["Repository"],
        "url": metadata["urls"]["Documentation"],
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    lines += ["authors:", *(f"  - name: {json.dumps(author['name'])}" for author in metadata["authors"])]
    lines += ["keywords:", *(f"  - {json.dumps(word)}" for word in metadata["keywords"])]
    return "\n".join(lines) + "\n"


def second(metadata: dict[str, Any]) -> str:
    """The project file of the distribution that only depends on this one, under the name that the catalog looks for."""
    urls = "\n".join(f"{name} = {json.dumps(url)}" for name, url in metadata["urls"].items())
    return f"""\
# Written by: python -m tests.support.release
# Snakemake's plugin catalog lists what is named snakemake-report-plugin-*. This has no code: its dependency brings it.
[build-system]
requires = ["hatchling>=1.27,<2"]
build-backend = "hatchling.build"

[project]
name = "{CATALOGUED}"
version = "{metadata["version"]}"
description = "The report plugin of {metadata["name"]}: which image made each output, and what is proven"
readme = {{ content-type = "text/markdown", text = "Installs `{metadata["name"]}`, which has the plugin." }}
license = "{metadata["license"]}"
authors = [{{ name = {json.dumps(metadata["authors"][0]["name"])} }}]
requires-python = "{metadata["requires-python"]}"
keywords = ["snakemake", "plugin", "report"]
dependencies = ["{metadata["name"]}=={metadata["version"]}"]

[project.urls]
{urls}

[tool.hatch.build.targets.wheel]
bypass-selection = true
"""


def recipe(metadata: dict[str, Any], sha256: str = "") -> str:
    """The conda recipe in bioconda's form; `sha256` is that of the source distribution."""
    name, urls = metadata["name"], metadata["urls"]
    scripts = [f"    - {script} = {target}" for script, target in metadata["scripts"].items()]
    return f"""\
# Written by: python -m tests.support.release
{{% set name = "{name}" %}}
{{% set version = "{metadata["version"]}" %}}
{{% set sha256 = "{sha256}" %}}{"" if sha256 else "  # make dist writes it"}

package:
  name: {{{{ name }}}}
  version: {{{{ version }}}}

source:
  url: {urls["Repository"]}/releases/download/v{{{{ version }}}}/{name.replace("-", "_")}-{{{{ version }}}}.tar.gz
  sha256: {{{{ sha256 }}}}

build:
  number: 0
  noarch: python
  script: {{{{ PYTHON }}}} -m pip install . --no-deps --no-build-isolation --no-cache-dir -vvv
  entry_points:
{chr(10).join(scripts)}
  run_exports:
    - {{{{ pin_subpackage(name, max_pin="x.x") }}}}

requirements:
  host:
    - python {metadata["requires-python"]}
    - pip
    - hatchling >=1.27,<2
  run:
    - python {metadata["requires-python"]}
{chr(10).join(f"    - {one}" for one in conda_requirements(metadata))}

test:
  imports:
    - {name.replace("-", "_")}
    - {CATALOGUED.replace("-", "_")}
  commands:
    - apptainer-freshness --version
    - apptainer-freshness --help

about:
  home: {urls["Repository"]}
  license: {metadata["license"]}
  license_family: {metadata["license"]}
  license_file: LICENSE
  summary: {json.dumps(metadata["description"])}
  dev_url: {urls["Repository"]}
  doc_url: {urls["Documentation"]}
"""


def conda_requirements(metadata: dict[str, Any]) -> Iterator[str]:
    """What it runs with, as conda writes it: the name, a space, the versions."""
    for requirement in metadata["dependencies"]:
        match = re.fullmatch(r"([a-z0-9-]+)([<>=!~].*)", requirement)
        if match is None:
            raise ValueError(f"a recipe cannot have the requirement {requirement}")
        yield f"{_CONDA_NAMES.get(match[1], match[1])} {match[2]}"


def build(folder: Path) -> None:
    """Build both distributions into `folder`, and write the recipe for conda with the hash of the source."""
    for source in (ROOT, SECOND.parent):
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
        subprocess.run(command, check=True)
    metadata = project()
    archive = folder / f"{metadata['name'].replace('-', '_')}-{metadata['version']}.tar.gz"
    (folder / "conda").mkdir(exist_ok=True)
    written = recipe(metadata, hashlib.sha256(archive.read_bytes()).hexdigest())
    (folder / "conda" / "meta.yaml").write_text(written, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["--dist"]:
        build(ROOT / "dist")
    else:
        for path, text in files().items():
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)} is current\n")
