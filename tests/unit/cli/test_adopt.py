"""``apptainer-freshness adopt``: what it prints, what it writes, and its exit status."""

from snakemake_apptainer_freshness.actions.workflow import Unseen
from snakemake_apptainer_freshness.store import history, state
from tests.support import pins

TAG = f"docker://{pins.REPOSITORY}:1.0"


def memory_of(place):
    return history.path_in(place.folder / ".snakemake")


def test_outputs_that_all_stay_are_nothing_to_report_and_what_was_proven_is_written(project):
    place = project(pins.pin().url, f"docker://{pins.REPOSITORY}@{pins.MANIFEST}")
    answer = place.run("adopt")

    assert answer.status == 0
    assert [row[:2] for row in answer.rows] == [["current", "0.txt"], ["proven", "1.txt"]]
    assert "2 outputs: 1 current, 1 proven; a run keeps all of them, as far as their containers go" in answer.err
    assert memory_of(place).exists()
    assert not (place.folder / ".snakemake").exists()


def test_an_output_that_cannot_be_proven_is_a_finding(project):
    answer = project(TAG).run("adopt", "--no-deep")

    assert answer.status == 1
    assert answer.rows == [["unproven", "0.txt", TAG, pins.pin().url, f"its image is no longer in {project().prefix}"]]
    assert "1 output: 1 unproven; 1 will be made again" in answer.err


def test_a_dry_run_writes_nothing(project):
    place = project(TAG)
    answer = place.run("adopt", "--dry-run", "--no-deep")

    assert answer.err.strip().endswith("; nothing was remembered (--dry-run)")
    assert sorted(path.name for path in place.folder.rglob("*")) == ["containers.lock"]


def test_json_has_every_output(project):
    place = project(f"docker://{pins.REPOSITORY}@{pins.MANIFEST}")
    document = place.run("adopt", "--json").json

    assert document["output"] == [
        {
            "path": "0.txt",
            "rule": "read",
            "reference": TAG,
            "recorded": f"docker://{pins.REPOSITORY}@{pins.MANIFEST}",
            "pinned": pins.pin().url,
            "standing": "proven",
            "detail": f"its url names {pins.MANIFEST.short}",
        }
    ]
    assert (document["memory"], document["remembered"], document["error"]) == (str(memory_of(place)), True, [])


def test_a_terminal_shows_outputs_together_that_one_thing_is_to_be_said_of(project, terminal):
    place = project(*[TAG] * 5)
    terminal()
    answer = place.run("adopt", "--no-deep")

    assert answer.out.count("unproven") == 1
    assert "0.txt, 1.txt, 2.txt, … and 2 more" in " ".join(answer.out.split())


def test_without_a_lock_it_says_how_to_make_one(project):
    place = project(TAG)
    (place.folder / "containers.lock").unlink()
    answer = place.run("adopt")

    assert answer.status == 2
    assert "there is no lock file" in answer.err
    assert "apptainer-freshness lock" in answer.err


def test_a_dag_that_cannot_be_built_is_an_error_and_not_an_empty_answer(project):
    place = project(unseen=(Unseen(rule="", why="the DAG cannot be built: missing input"),))
    answer = place.run("adopt")

    assert answer.status == 2
    assert "cannot see the outputs of this workflow: the DAG cannot be built: missing input" in answer.err


def test_a_rule_that_could_not_be_read_to_the_end_is_told(project):
    place = project(pins.pin().url, unseen=(Unseen(rule="align", why="no job of it is in the DAG"),))

    assert "not seen: rule align: no job of it is in the DAG" in place.run("adopt").err
    assert place.run("adopt", "--json").json["unseen"] == [{"rule": "align", "why": "no job of it is in the DAG"}]


def test_a_memory_that_cannot_be_used_is_told_and_replaced(project):
    place = project(pins.pin().url, f"docker://{pins.REPOSITORY}@{pins.MANIFEST}")
    memory = memory_of(place)
    state.write(memory, b"{}")
    answer = place.run("adopt")

    assert f"warning: not using {memory}: it has no version" in answer.err
    assert memory.with_name(f"{memory.name}.unusable").read_text() == "{}"


def test_a_memory_that_cannot_be_written_is_an_error_of_its_own(project):
    place = project(f"docker://{pins.REPOSITORY}@{pins.MANIFEST}")
    memory_of(place).parent.write_text("")  # where the folder of all memories should be

    assert place.run("adopt").status == 3


def test_the_keys_of_the_json_are_documented(project):
    from tests.support.cli_page import SECTIONS

    document = project(TAG).run("adopt", "--json", "--no-deep").json
    for key in {*document, *document["output"][0]} - {"version", "lockfile", "prefix"}:
        assert f"`{key}`" in SECTIONS["adopt"]
