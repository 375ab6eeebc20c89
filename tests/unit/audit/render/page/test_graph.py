"""The layout of the graph of rules: downwards, apart, narrow, whatever the graph."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.audit.render.page.graph import (
    BROADEST,
    GAP,
    NODE,
    GraphNode,
    drawing,
    layout,
    short_name,
)
from snakemake_apptainer_freshness.audit.results import OutputVerdict

NODES = [f"rule{number}" for number in range(30)]


@st.composite
def graphs(draw):
    nodes = NODES[: draw(st.integers(0, len(NODES)))]
    names = st.sampled_from(nodes) if nodes else st.nothing()
    return nodes, draw(st.lists(st.tuples(names, names), max_size=60)) if nodes else []


@given(graphs())
def test_boxes_stand_apart_and_no_row_is_too_broad(graph):
    nodes, edges = graph
    placed = layout(nodes, edges)
    rows = {}
    for x, row in placed.places.values():
        rows.setdefault(row, []).append(x)

    assert set(placed.places) == set(nodes)
    assert sorted(rows) == list(range(placed.rows))
    for places in rows.values():
        places.sort()
        assert len(places) <= BROADEST
        assert all(after - before >= NODE + GAP - 0.2 for before, after in pairwise(places))
        assert places[0] >= NODE / 2 - 0.1
        assert places[-1] <= placed.width - NODE / 2 + 0.1


@given(graphs())
def test_every_edge_is_drawn_from_its_one_end_to_its_other_row_by_row(graph):
    nodes, edges = graph
    placed = layout(nodes, edges)

    assert set(placed.edges) == {edge for edge in edges if edge[0] != edge[1]}
    for (before, after), points in placed.edges.items():
        assert (points[0], points[-1]) == (placed.places[before], placed.places[after])
        steps = {later[1] - earlier[1] for earlier, later in pairwise(points)}
        assert steps in ({1}, {-1})


@given(graphs())
def test_without_a_circle_every_edge_points_downwards(graph):
    nodes, edges = graph
    placed = layout(nodes, [(min(edge, key=nodes.index), max(edge, key=nodes.index)) for edge in edges])

    assert all(points[0][1] < points[-1][1] for points in placed.edges.values())


def test_of_a_circle_one_edge_points_upwards():
    placed = layout(["a", "b", "c"], [("a", "b"), ("b", "c"), ("c", "a")])

    assert [placed.places[name][1] for name in "abc"] == [0, 1, 2]
    assert [points[0][1] < points[-1][1] for points in placed.edges.values()] == [True, True, False]


def test_a_chain_is_straight():
    placed = layout(["a", "b", "c"], [("a", "b"), ("b", "c")])

    assert len({x for x, _ in placed.places.values()}) == 1


def test_edges_that_need_not_cross_do_not():
    placed = layout(["a", "b", "x", "y"], [("a", "y"), ("b", "x")])

    assert (placed.places["a"][0] < placed.places["b"][0]) is (placed.places["y"][0] < placed.places["x"][0])


def test_a_rule_that_is_needed_late_stands_late():
    placed = layout(["index", "a", "b", "c"], [("a", "b"), ("b", "c"), ("index", "c")])

    assert placed.places["index"][1] == placed.places["b"][1]


def test_a_fan_of_thirty_wraps_into_rows():
    leaves = NODES[1:]
    placed = layout(NODES, [(NODES[0], leaf) for leaf in leaves])

    assert placed.rows == 9


def test_a_box_names_its_rule_its_image_and_what_it_takes_from():
    nodes = [
        GraphNode(name="a", images=("docker://q.io/x/salmon:1",), outputs=1, verdict=OutputVerdict.PROVEN),
        GraphNode(name="b" * 40, images=("docker://x", "docker://y"), outputs=2, verdict=None),
        GraphNode(name="c", images=(), outputs=0, verdict=None),
    ]
    picture = drawing(nodes, [("a", "b" * 40), ("b" * 40, "c"), ("c", "a")])

    assert [box.image for box in picture.boxes] == ["salmon:1", "2 images", "no container"]
    assert picture.boxes[1].title.endswith("…")
    assert [box.hue for box in picture.boxes] == [0, 1, None]
    assert picture.boxes[2].takes_from == ("b" * 40,)
    assert len(picture.lines) == 3
    assert all(line.startswith("M") for line in picture.lines)


def test_a_name_is_short_without_registry_and_path():
    assert short_name("docker://quay.io/biocontainers/salmon:1.10") == "salmon:1.10"
    assert short_name("/") == "/"
