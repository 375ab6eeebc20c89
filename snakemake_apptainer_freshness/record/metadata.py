"""What Snakemake itself recorded of a work directory's outputs: values only, read by :mod:`.engine.persistence`.

Snakemake keeps one record an output, of the job that made it last; it knows rule, inputs and container, and nothing of
what the container's tag pointed at. It tells which outputs were made without us, and what was made of what.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeBy:
    """How one output was made, as Snakemake has it.

    `container` is the url that the rule ran, empty without one; `started` and `ended` are seconds since the epoch, 0
    where they are not known, and `ended` is the output's own modification time.
    """

    rule: str
    container: str = ""
    software: str = ""
    """Snakemake's hash of the software environment."""
    started: float = 0.0
    ended: float = 0.0
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """All of one work directory, by the output's path as Snakemake names it.

    `incomplete` are outputs whose job was started and has not ended, as far as Snakemake knows. `unreadable` says what
    could not be read, each with its reason; `found` whether there is anything of Snakemake's at all.
    """

    outputs: Mapping[str, MadeBy] = field(default_factory=dict)
    incomplete: frozenset[str] = frozenset()
    unreadable: tuple[str, ...] = ()
    found: bool = True


NOTHING = Metadata(found=False)
