"""Which outputs were made of what a bad image made, and through which files. Pure.

A good image that reads what a bad one wrote makes nothing good: its output keeps its own verdict, and is marked.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from snakemake_apptainer_freshness.audit.results import OutputAudit, OutputVerdict

_DEEPEST: Final = 64
"""So many folders above an input are looked for among the outputs."""


def affected(outputs: Sequence[OutputAudit]) -> dict[str, tuple[str, ...]]:
    """Return, for each affected output of one work directory, the files through which it is.

    The first is an input of its own; the last is the nearest output that a bad image made. An output that a bad image
    made itself is not in it: its verdict says so.
    """
    known = {output.path for output in outputs}
    takers: defaultdict[str, list[str]] = defaultdict(list)
    for output in outputs:
        for name in output.inputs:
            if before := owner(name, known):
                takers[before].append(output.path)
    bad = sorted(output.path for output in outputs if output.verdict is OutputVerdict.BAD_IMAGE)
    ways: dict[str, tuple[str, ...]] = dict.fromkeys(bad, ())
    waiting = deque(bad)  # breadth first: the way that is found is a shortest one
    while waiting:
        path = waiting.popleft()
        for taker in takers[path]:
            if taker not in ways:
                ways[taker] = (path, *ways[path])
                waiting.append(taker)
    return {path: way for path, way in ways.items() if way}


def upstream(paths: Iterable[str], inputs: Mapping[str, Sequence[str]]) -> set[str]:
    """Return every output that one of `paths` was made of, directly or not; `inputs` has those of each output."""
    sources: set[str] = set()
    waiting = list(paths)
    while waiting:
        for name in inputs.get(waiting.pop(), ()):
            if (before := owner(name, inputs)) and before not in sources:
                sources.add(before)
                waiting.append(before)
    return sources


def owner(name: str, known: Collection[str]) -> str:
    """Return which of the `known` outputs the file `name` is, or lies in; empty where it is none of them."""
    for _ in range(_DEEPEST):
        if not name or name in known:
            return name
        name = name.rpartition("/")[0]
    return ""
