"""Exporting: the pinned references of a lock in the words of other tools. Pure: a lock in, text out.

* ``list``: one pinned reference a line.
* ``skopeo``: what ``skopeo sync --src yaml`` copies (containers/skopeo, docs/skopeo-sync.1.md).
* ``regsync``: what regclient's ``regsync`` keeps in another registry; it needs one to copy to.
* ``cyclonedx``: a bill of materials, CycloneDX 1.6, with a component a container and its digest (ECMA-424).
* ``nextflow``: a ``nextflow.config`` with a map from what the workflow says to what it is pinned to.
* ``galaxy``: a container resolver of the type ``mapping`` (Galaxy's docs, admin/container_resolvers). It goes by the
  identifiers of tools, which no lock has: the name of the repository stands there, for a person to correct.

The same lock gives the same bytes: nothing has a time or a random number. What a tool has no word for is left out of
its text and named in the answer, never left out in silence.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.lockfile import Entry, Lock

_ALGORITHMS: Final = {"sha256": "SHA-256", "sha512": "SHA-512"}
"""What CycloneDX calls the hashes."""
_SHORT: Final = 12
"""Hex digits of a digest that stand for a tag."""
_LONGEST_TAG: Final = 128 - 1 - _SHORT
_TO_COPY: Final = "it copies images of OCI registries (docker://, oras://) only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """The `text` for the other tool; `left_out` has the references that it cannot name, and why."""

    text: str
    left_out: Mapping[str, str]


def export(lock: Lock, form: str, *, target: str = "") -> Export:
    """Return the pinned references of `lock` in the `form` of another tool, a key of :data:`FORMS`.

    `target` is the registry, with or without a path, that ``regsync`` copies to.
    """
    return FORMS[form](lock, target)


def _list(lock: Lock, _target: str) -> Export:
    return Export(text="".join(f"{entry.pinned.text}\n" for entry in lock), left_out={})


def _skopeo(lock: Lock, _target: str) -> Export:
    by_host: dict[str, dict[str, list[str]]] = {}
    for entry in _of_registries(lock):
        digests = by_host.setdefault(entry.pinned.host, {}).setdefault(entry.pinned.repository, [])
        if str(entry.digest) not in digests:
            digests.append(str(entry.digest))
    lines = []
    for host in sorted(by_host):
        lines += [f"{json.dumps(host)}:", "  images:"]
        for repository in sorted(by_host[host]):
            lines.append(f"    {json.dumps(repository)}:")
            lines += [f"      - {json.dumps(digest)}" for digest in by_host[host][repository]]
    return Export(text="\n".join([*lines, ""]) if lines else "{}\n", left_out=_others(lock))


def _regsync(lock: Lock, target: str) -> Export:
    copies: dict[str, str] = {}
    for entry in _of_registries(lock):
        pinned = entry.pinned
        source = f"{pinned.host}/{pinned.repository}@{entry.digest}"
        # the host is part of the path there: two registries may have a repository of one name
        name = f"{target.rstrip('/')}/{pinned.host.replace(':', '_').lower()}/{pinned.repository}"
        tag = entry.reference.tag or entry.digest.hex[:_SHORT]
        if copies.get(f"{name}:{tag}", source) != source:
            tag = f"{tag[:_LONGEST_TAG]}-{entry.digest.hex[:_SHORT]}"
        copies[f"{name}:{tag}"] = source
    lines = ["version: 1", "sync:" if copies else "sync: []"]
    for copied, source in copies.items():
        lines += [f"  - source: {json.dumps(source)}", f"    target: {json.dumps(copied)}", "    type: image"]
    return Export(text="\n".join([*lines, ""]), left_out=_others(lock))


def _cyclonedx(lock: Lock, _target: str) -> Export:
    components: dict[str, dict[str, Any]] = {}
    for entry in lock:
        component = components.setdefault(entry.pinned.text, _component(entry))
        component["properties"].append({"name": "apptainer-freshness:reference", "value": entry.reference.text})
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": list(components.values()),
    }
    return Export(text=json.dumps(document, indent=2) + "\n", left_out={})


def _component(entry: Entry) -> dict[str, Any]:
    pinned = entry.pinned
    name = (
        f"{pinned.host}/{pinned.repository}" if entry.reference.scheme.is_registry else pinned.repository or pinned.path
    )
    component: dict[str, Any] = {
        "type": "container",
        "bom-ref": pinned.text,
        "name": name.lstrip("/"),
        "version": entry.reference.tag or str(entry.digest),
        "hashes": [{"alg": _ALGORITHMS[entry.digest.algorithm], "content": entry.digest.hex}],
    }
    if entry.reference.scheme.is_registry:
        component["purl"] = _purl(entry)
    return component | {"properties": [{"name": "apptainer-freshness:pinned", "value": pinned.text}]}


def _purl(entry: Entry) -> str:
    """Return the package URL of type ``oci`` (package-url/purl-spec, types/oci)."""
    repository = entry.pinned.repository
    qualifiers = {"repository_url": f"{entry.pinned.host}/{repository}"}
    if entry.reference.tag:
        qualifiers["tag"] = entry.reference.tag
    rest = "&".join(f"{key}={quote(value, safe='/')}" for key, value in sorted(qualifiers.items()))
    return f"pkg:oci/{repository.rpartition('/')[2].lower()}@{quote(str(entry.digest), safe='')}?{rest}"


def _nextflow(lock: Lock, _target: str) -> Export:
    """Return lines for Nextflow, which takes a name without a scheme for ``docker://``; other schemes are written."""
    pairs = [
        f"        '{_nextflow_name(entry.reference.text)}': '{_nextflow_name(entry.pinned.text)}'" for entry in lock
    ]
    inner = ",\n".join(pairs) or "        :"
    text = (
        "// A process takes its image with: container params.containers['NAME']\n"
        f"params {{\n    containers = [\n{inner}\n    ]\n}}\n"
    )
    return Export(text=text, left_out={})


def _nextflow_name(text: str) -> str:
    return text.removeprefix(f"{Scheme.DOCKER}://")


def _galaxy(lock: Lock, _target: str) -> Export:
    """Return one mapping for each name of a tool: of two Galaxy would take the first, whatever the other says."""
    lines, left_out, known = [], {}, set()
    for entry in lock:
        tool = entry.pinned.repository.rpartition("/")[2]
        if not entry.reference.scheme.is_registry:
            left_out[entry.reference.text] = "it lies in no repository that could be named as a tool"
        elif tool in known:
            left_out[entry.reference.text] = f"another image is mapped to a tool {tool} already"
        else:
            known.add(tool)
            lines += [
                f"    - tool_id: {json.dumps(tool)}  # {entry.reference.text}",
                "      container_type: singularity",
                f"      identifier: {json.dumps(entry.pinned.text)}",
            ]
    head = [
        "# Each tool_id is the name of a repository: write there what your Galaxy calls the tool.",
        "- type: mapping",
        "  mappings:" if lines else "  mappings: []",
    ]
    return Export(text="\n".join([*head, *lines, ""]), left_out=left_out)


def _of_registries(lock: Lock) -> Iterable[Entry]:
    return (entry for entry in lock if entry.reference.scheme.is_registry)


def _others(lock: Lock) -> dict[str, str]:
    return {entry.reference.text: _TO_COPY for entry in lock if not entry.reference.scheme.is_registry}


FORMS: Final[Mapping[str, Callable[[Lock, str], Export]]] = {
    "list": _list,
    "skopeo": _skopeo,
    "regsync": _regsync,
    "cyclonedx": _cyclonedx,
    "nextflow": _nextflow,
    "galaxy": _galaxy,
}
"""The forms by their names."""
