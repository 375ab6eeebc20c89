"""The graph of rules and the images that they ran in, as a drawing: boxes, lines, and the words in them.

Values only; the template draws them. The first word of a box is its rule, the second the image without its registry;
what does not fit is cut here, and whole in the box's title and in the table beside the drawing. Lengths are in CSS
pixels.

A layered drawing of a graph: which row and which place each node gets, and the points that each edge passes.

The classic four steps (Sugiyama): edges that close a circle are turned round; each node gets a row below all that it
takes from; nodes change places within rows until few edges cross; then they move apart, as near to their neighbours as
their widths allow. What is our own: a row holds :data:`BROADEST` nodes at most, so that a rule that thirty others take
from makes five rows and not one that no screen shows whole. An edge over several rows passes a bend in each.

Pure and deterministic: the same graph gives the same drawing. Lengths are in CSS pixels.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from snakemake_apptainer_freshness.audit.results import OutputVerdict

BROADEST: Final = 4
NODE: Final = 184.0
BEND: Final = 6.0
GAP: Final = 16.0
SWEEPS: Final = 24
STIFFNESS: Final = 8.0
"""How much more the straightness of a long edge counts than the place of a box above another."""

Arrow = tuple[str, str]
"""An edge: from one node to another, by their names."""
_Vertex = str | tuple[Arrow, int]
"""A node's name, or the bend of an edge in a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The middle and the row of each node, and of each edge the (x, row) that it passes, its ends included."""

    places: Mapping[str, tuple[float, int]]
    edges: Mapping[Arrow, tuple[tuple[float, int], ...]]
    width: float
    rows: int


def layout(nodes: Sequence[str], edges: Iterable[Arrow]) -> Layout:
    """Return a place for each of `nodes`; an edge of a node to itself is left out."""
    wanted = list(dict.fromkeys(edge for edge in edges if edge[0] != edge[1]))
    forward = {edge: (edge if ahead else edge[::-1]) for edge, ahead in _ahead(nodes, wanted).items()}
    links = list(dict.fromkeys(forward.values()))
    rows = _rows(nodes, links)
    order, chains = _with_bends(nodes, links, rows)
    neighbours = _neighbours(chains.values())
    order = _uncrossed(order, neighbours)
    middles, width = _middles(order, neighbours)
    paths = {link: tuple((middles[vertex], _row(vertex, rows)) for vertex in chain) for link, chain in chains.items()}
    return Layout(
        places={node: (middles[node], rows[node]) for node in nodes},
        edges={edge: paths[link] if link == edge else paths[link][::-1] for edge, link in forward.items()},
        width=width,
        rows=len(order),
    )


def _ahead(nodes: Sequence[str], edges: Sequence[Arrow]) -> Mapping[Arrow, bool]:
    """Return whether each edge may point downwards: false for those that close a circle."""
    after: dict[str, list[str]] = {node: [] for node in nodes}
    for before, behind in edges:
        after[before].append(behind)
    ahead: dict[Arrow, bool] = {}
    open_nodes: set[str] = set()
    done: set[str] = set()
    taken_from = {behind for _, behind in edges}
    for start in sorted(nodes, key=lambda node: node in taken_from):
        stack = [] if start in done else [(start, iter(after[start]))]
        open_nodes.update(node for node, _ in stack)
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                open_nodes.discard(node)
                done.add(node)
                continue
            ahead[node, following] = following not in open_nodes
            if following not in open_nodes and following not in done:
                open_nodes.add(following)
                stack.append((following, iter(after[following])))
    return {edge: ahead[edge] for edge in edges}


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows so far, none broader than :data:`BROADEST`."""

    of: dict[str, int] = field(default_factory=dict)
    used: Counter[int] = field(default_factory=Counter)

    def has_room(self, row: int) -> bool:
        return self.used[row] < BROADEST

    def put(self, node: str, row: int) -> None:
        """Put `node` into `row`, or the next one below that has room; it leaves the one that it was in."""
        while not self.has_room(row):
            row += 1
        if node in self.of:
            self.used[self.of[node]] -= 1
        self.of[node] = row
        self.used[row] += 1


def _rows(nodes: Sequence[str], links: Sequence[Arrow]) -> dict[str, int]:
    """Return the row of each node; those that nothing links come last."""
    before: dict[str, list[str]] = {node: [] for node in nodes}
    after: dict[str, list[str]] = {node: [] for node in nodes}
    for upper, lower in links:
        before[lower].append(upper)
        after[upper].append(lower)
    rows = _Rows()
    linked = [node for node in _sorted_downwards(nodes, before, after) if before[node] or after[node]]
    for node in linked:
        rows.put(node, max((rows.of[upper] + 1 for upper in before[node]), default=0))
    for node in linked:
        if not before[node]:  # what takes from nothing moves down to what takes from it
            lowest = min(rows.of[lower] for lower in after[node]) - 1
            free = next(filter(rows.has_room, range(lowest, rows.of[node], -1)), None)
            if free is not None:
                rows.put(node, free)
    last = max(rows.of.values(), default=-1) + 1
    for node in nodes:
        if node not in rows.of:
            rows.put(node, last)
    filled = {row: number for number, row in enumerate(sorted(set(rows.of.values())))}
    return {node: filled[row] for node, row in rows.of.items()}


def _sorted_downwards(
    nodes: Sequence[str], before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]
) -> Iterable[str]:
    waiting = {node: len(before[node]) for node in nodes}
    ready = [node for node in nodes if not waiting[node]]
    for node in ready:  # grows while it is read
        for lower in after[node]:
            waiting[lower] -= 1
            if not waiting[lower]:
                ready.append(lower)
    return ready


def _with_bends(
    nodes: Sequence[str], links: Sequence[Arrow], rows: Mapping[str, int]
) -> tuple[list[list[_Vertex]], dict[Arrow, list[_Vertex]]]:
    """Return the rows with a bend wherever an edge passes one, and the way of each edge through them."""
    order: list[list[_Vertex]] = [[] for _ in range(max(rows.values(), default=-1) + 1)]
    for node in nodes:
        order[rows[node]].append(node)
    chains: dict[Arrow, list[_Vertex]] = {}
    for upper, lower in links:
        bends: list[_Vertex] = [((upper, lower), row) for row in range(rows[upper] + 1, rows[lower])]
        for row, bend in enumerate(bends, rows[upper] + 1):
            order[row].append(bend)
        chains[upper, lower] = [upper, *bends, lower]
    return order, chains


def _row(vertex: _Vertex, rows: Mapping[str, int]) -> int:
    return rows[vertex] if isinstance(vertex, str) else vertex[1]


_Neighbours = Mapping[_Vertex, tuple[list[_Vertex], list[_Vertex]]]
"""Of each vertex: those in the row above, those in the row below."""


def _neighbours(chains: Iterable[Sequence[_Vertex]]) -> _Neighbours:
    neighbours: dict[_Vertex, tuple[list[_Vertex], list[_Vertex]]] = {}
    for chain in chains:
        for upper, lower in pairwise(chain):
            neighbours.setdefault(upper, ([], []))[1].append(lower)
            neighbours.setdefault(lower, ([], []))[0].append(upper)
    return neighbours


def _uncrossed(order: list[list[_Vertex]], neighbours: _Neighbours) -> list[list[_Vertex]]:
    """Return the rows in the order with the fewest crossings that the sweeps met."""
    best, fewest = order, _crossings(order, neighbours)
    current = order
    for sweep in range(SWEEPS):
        if not fewest:
            break
        side = sweep % 2
        current = [list(row) for row in current]
        numbers = range(1, len(current)) if side == 0 else range(len(current) - 2, -1, -1)
        for number in numbers:
            there = {vertex: place for place, vertex in enumerate(current[number - 1 if side == 0 else number + 1])}
            here = {vertex: place for place, vertex in enumerate(current[number])}
            means = {
                vertex: _mean([there[other] for other in _side(neighbours, vertex, side)], here[vertex])
                for vertex in here
            }
            current[number].sort(key=means.__getitem__)
        crossings = _crossings(current, neighbours)
        if crossings < fewest:
            best, fewest = current, crossings
    return best


def _crossings(order: Sequence[Sequence[_Vertex]], neighbours: _Neighbours) -> int:
    count = 0
    for upper, lower in pairwise(order):
        place = {vertex: number for number, vertex in enumerate(lower)}
        ends = [end for vertex in upper for end in sorted(place[other] for other in _side(neighbours, vertex, 1))]
        count += sum(later < earlier for number, earlier in enumerate(ends) for later in ends[number + 1 :])
    return count


def _middles(order: Sequence[Sequence[_Vertex]], neighbours: _Neighbours) -> tuple[dict[_Vertex, float], float]:
    """Return the middle of each vertex, the leftmost edge being 0, and the whole width."""
    middles: dict[_Vertex, float] = {}
    for row in order:
        middles.update(zip(row, _apart([(vertex, 0.0, 1.0) for vertex in row]), strict=True))
    for sweep in range(SWEEPS):
        for row in order if sweep % 2 == 0 else reversed(order):
            wishes = [(vertex, *_wish(vertex, neighbours, middles)) for vertex in row]
            middles.update(zip(row, _apart(wishes), strict=True))
    left = min((middles[vertex] - _breadth(vertex) / 2 for vertex in middles), default=0.0)
    right = max((middles[vertex] + _breadth(vertex) / 2 for vertex in middles), default=0.0)
    return {vertex: round(middle - left, 1) for vertex, middle in middles.items()}, round(right - left, 1)


def _wish(vertex: _Vertex, neighbours: _Neighbours, middles: Mapping[_Vertex, float]) -> tuple[float, float]:
    """Return where `vertex` would be best for its neighbours, and how much that counts."""
    pulls = [
        (middles[other], STIFFNESS if not (isinstance(vertex, str) or isinstance(other, str)) else 1.0)
        for side in (0, 1)
        for other in _side(neighbours, vertex, side)
    ]
    weight = sum(pull for _, pull in pulls)
    return (sum(middle * pull for middle, pull in pulls) / weight, weight) if pulls else (middles[vertex], 1.0)


def _apart(row: Sequence[tuple[_Vertex, float, float]]) -> list[float]:
    """Return the places nearest to the wishes of `row` (weighted least squares) that keep its order and its distances.

    Less the distances, that is a monotone regression: neighbours that would overlap are pooled at their mean.
    """
    offsets = [0.0] * min(len(row), 1)
    for (vertex, *_), (following, *_) in pairwise(row):
        offsets.append(offsets[-1] + (_breadth(vertex) + _breadth(following)) / 2 + GAP)
    pools: list[tuple[float, float, int]] = []
    for (_, wish, own), offset in zip(row, offsets, strict=True):
        total, weight, members = (wish - offset) * own, own, 1
        while pools and pools[-1][0] / pools[-1][1] > total / weight:
            before, heavy, more = pools.pop()
            total, weight, members = total + before, weight + heavy, members + more
        pools.append((total, weight, members))
    levels = [total / weight for total, weight, members in pools for _ in range(members)]
    return [level + offset for level, offset in zip(levels, offsets, strict=True)]


def _breadth(vertex: _Vertex) -> float:
    return NODE if isinstance(vertex, str) else BEND


def _side(neighbours: _Neighbours, vertex: _Vertex, side: int) -> Sequence[_Vertex]:
    return neighbours[vertex][side] if vertex in neighbours else ()


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


HEIGHT: Final = 56.0
STEP: Final = 104.0
"""From one row to the next."""
MARGIN: Final = 8.0
HUES: Final = 6
LETTERS: Final = 22
"""So many characters fit into a box."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNode:
    """A rule: its images, how many outputs it made, and the worst verdict of these (None: it made none)."""

    name: str
    images: tuple[str, ...]
    outputs: int
    verdict: OutputVerdict | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rule in the drawing, by its upper left corner; `hue` numbers its image, None where it has none."""

    node: GraphNode
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


def drawing(nodes: Sequence[GraphNode], edges: Iterable[tuple[str, str]]) -> Drawing:
    """Return the drawing of `nodes`, which `edges` name by their names."""
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
    """Return a reference without scheme, registry and path: ``salmon:1.10.2``."""
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
    """Return a smooth line through `points` (x and row), from below the first box to above the last one."""
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
