"""The graph of rules and the images that they ran in, as a drawing: boxes, lines, and the words in them.

Values only; the template draws them. The first word of a box is its rule, the second the image without its registry;
what does not fit is cut here, and whole in the box's title and in the table beside the drawing. Lengths are in CSS
pixels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from snakemake_apptainer_freshness.audit.layers import NODE, layout
from snakemake_apptainer_freshness.audit.results import Verdict

HEIGHT: Final = 56.0
STEP: Final = 104.0
"""From one row to the next."""
MARGIN: Final = 8.0
HUES: Final = 6
LETTERS: Final = 22
"""So many characters fit into a box."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A rule: its images, how many outputs it made, and the worst verdict of these (None: it made none)."""

    name: str
    images: tuple[str, ...]
    outputs: int
    verdict: Verdict | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rule in the drawing, by its upper left corner; `hue` numbers its image, None where it has none."""

    node: Node
    x: float
    y: float
    title: str
    image: str
    hue: int | None
    takes_from: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """The whole drawing; `lines` are paths of SVG."""

    boxes: tuple[Box, ...]
    lines: tuple[str, ...]
    width: float
    height: float


def drawing(nodes: Sequence[Node], edges: Iterable[tuple[str, str]]) -> Drawing:
    """The drawing of `nodes`, which `edges` name by their names."""
    known = list(edges)
    placed = layout([node.name for node in nodes], known)
    references = sorted({image for node in nodes for image in node.images})
    hues = {reference: number % HUES for number, reference in enumerate(references)}
    boxes = []
    for node in nodes:
        middle, row = placed.places[node.name]
        boxes.append(
            Box(
                node=node,
                x=round(MARGIN + middle - NODE / 2, 1),
                y=MARGIN + row * STEP,
                title=_cut(node.name),
                image=_images(node.images),
                hue=hues[node.images[0]] if node.images else None,
                takes_from=tuple(sorted({before for before, after in known if after == node.name})),
            )
        )
    return Drawing(
        boxes=tuple(boxes),
        lines=tuple(_line(points) for points in placed.edges.values()),
        width=placed.width + 2 * MARGIN,
        height=2 * MARGIN + max(placed.rows - 1, 0) * STEP + HEIGHT,
    )


def short_name(reference: str) -> str:
    """A reference without scheme, registry and path: ``salmon:1.10.2``."""
    return reference.rstrip("/").rpartition("/")[2] or reference


def _images(images: Sequence[str]) -> str:
    if not images:
        return "no container"
    if len(images) > 1:
        return f"{len(images)} images"
    return _cut(short_name(images[0]))


def _cut(text: str) -> str:
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"


def _line(points: Sequence[tuple[float, int]]) -> str:
    """A smooth line through `points` (x and row), from below the first box to above the last one."""
    down = points[-1][1] >= points[0][1]
    last = len(points) - 1
    ways = []
    for number, (x, row) in enumerate(points):
        top = MARGIN + row * STEP
        enters = top if down else top + HEIGHT
        leaves = top + HEIGHT if down else top
        middle = round(MARGIN + x, 1)
        if number == 0:
            ways.append(f"M{middle} {leaves}")
            continue
        before = round(MARGIN + points[number - 1][0], 1)
        start = MARGIN + points[number - 1][1] * STEP + (HEIGHT if down else 0)
        half = round((start + enters) / 2, 1)
        end = enters - (5 if down else -5) if number == last else enters  # room for the head of the arrow
        ways.append(f"C{before} {half} {middle} {half} {middle} {end}")
        if number < last:
            ways.append(f"V{leaves}")
    return "".join(ways)
