"""A tag moves between two runs: what each mode asks, runs, says and writes. Real Snakemake, Apptainer and registry."""

import json
import socket
import sys

import pytest

from snakemake_apptainer_freshness import lockfile
from snakemake_apptainer_freshness.actions.lock_io import write_lock
from snakemake_apptainer_freshness.common.environment import CHECK_EVERY
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.record.journal import FOLDER
from tests.support.pins import lock_entry
from tests.support.workflow import READS_MESSAGE


def test_apptainer_alone_notices_that_a_tag_moved(repository, workspace):
    tool = repository()
    tool.push("original")
    first = workspace.run("apptainer", "run", tool.reference).stdout
    tool.push("updated")

    assert first == "original\n"
    assert workspace.run("apptainer", "run", tool.reference).stdout == "updated\n"


def test_snakemake_alone_does_not(tool, workspace):
    tool.push("original")
    workspace.snakemake()
    tool.push("updated")
    workspace.snakemake("--forceall")

    assert workspace.read("message.txt") == "original\n"


def test_mode_lock_keeps_running_the_pinned_image_and_reports_the_move(tool, workspace):
    old = tool.push("original")
    first = workspace.snakemake(flag="true")
    new = tool.push("updated")
    second = workspace.snakemake("--forceall", flag="true")

    assert workspace.read("message.txt") == "original\n"
    assert str(workspace.lock().get(tool.reference).digest) == old
    assert workspace.metadata("message.txt")["container_img_url"] == tool.pinned(old)
    assert first.ours == [
        "apptainer-freshness: 1 image pinned by containers.lock (mode lock): 1 added",
        f"added: {tool.reference} → {old[:19]}",
        "new: containers.lock: commit it, so that every run of this workflow runs these images",
    ]
    assert second.ours == [
        "apptainer-freshness: 1 image pinned by containers.lock (mode lock): 1 moved",
        f"moved: {tool.reference}: {old[:19]} → {new[:19]}",
        (
            f"the pin stays; take this one: apptainer-freshness lock --upgrade-image {tool.reference}; "
            "take all: snakemake … --config apptainer_freshness=update"
        ),
    ]


def test_mode_lock_says_so_where_the_tag_still_points_at_the_pin(tool, workspace):
    tool.push("original")
    workspace.snakemake(flag="lock")
    before = workspace.files()["containers.lock"]

    assert workspace.snakemake("--forceall", flag="lock").ours == [
        "apptainer-freshness: 1 image pinned by containers.lock (mode lock): 1 current"
    ]
    assert workspace.files()["containers.lock"] == before


def test_mode_update_takes_the_new_image(tool, workspace):
    old = tool.push("original")
    workspace.snakemake(flag="lock")
    new = tool.push("updated")
    result = workspace.snakemake(flag="update")

    assert workspace.read("message.txt") == "updated\n"
    assert str(workspace.lock().get(tool.reference).digest) == new
    assert workspace.metadata("message.txt")["container_img_url"] == tool.pinned(new)
    assert result.ours == [
        "apptainer-freshness: 1 image pinned by containers.lock (mode update): 1 updated",
        f"updated: {tool.reference} {old[:19]} → {new[:19]}",
    ]


def test_mode_locked_runs_the_pin_says_that_the_tag_moved_and_never_writes_the_lock(tool, workspace):
    tool.push("original")
    workspace.snakemake(flag="lock")
    before = workspace.files()["containers.lock"]
    tool.push("updated")
    result = workspace.snakemake("--forceall", flag="locked")

    assert workspace.read("message.txt") == "original\n"
    assert workspace.files()["containers.lock"] == before
    assert "1 moved" in result.ours[0]


def test_mode_frozen_asks_no_registry(tool, workspace):
    tool.push("original")
    workspace.snakemake(flag="lock")
    tool.registry.clear()
    tool.push("updated")
    pushed = len(tool.requests())
    result = workspace.snakemake("--forceall", flag="frozen")

    assert workspace.read("message.txt") == "original\n"
    assert len(tool.requests()) == pushed
    assert result.ours == ["apptainer-freshness: 1 image pinned by containers.lock (mode frozen): 1 unchecked"]


@pytest.mark.parametrize("mode", ["locked", "frozen"])
def test_modes_that_never_write_refuse_a_reference_that_the_lock_lacks(tool, workspace, mode):
    tool.push("original")
    result = workspace.snakemake(flag=mode, fails=True)

    assert (
        f"{tool.reference} (rule read in {workspace.folder}/Snakefile, line 2): not in containers.lock" in result.output
    )
    assert not workspace.exists("message.txt")
    assert not workspace.exists("containers.lock")
    assert "Traceback" not in result.output


def test_mode_off_and_no_flag_leave_everything_to_snakemake(tool, workspace):
    tool.push("original")
    for flag in ("off", None):
        result = workspace.snakemake("--forceall", flag=flag)
        assert result.ours == []
    assert workspace.metadata("message.txt")["container_img_url"] == tool.reference
    assert tool.our_requests() == []
    assert not workspace.exists("containers.lock")


def test_on_moved_error_stops_before_any_job_and_announces_nothing_as_added(tool, repository, workspace):
    tool.push("original")
    workspace.write("config.yaml", "apptainer_freshness: {on_moved: error}\n")
    workspace.snakemake("--configfile", "config.yaml")
    before = workspace.files()["containers.lock"]
    tool.push("updated")
    (workspace.folder / "message.txt").unlink()
    other = repository("other")
    other.push("other")
    rule = "\nrule other:\n    output: 'other.txt'\n    container: '{}'\n    shell: 'cat /message > {{output}}'\n"
    workspace.write("Snakefile", workspace.read("Snakefile") + rule.format(other.reference))
    result = workspace.snakemake("message.txt", "other.txt", "--configfile", "config.yaml", fails=True)

    assert "on_moved is error" in result.output
    assert "added" not in result.output
    assert not workspace.exists("message.txt")
    assert workspace.files()["containers.lock"] == before


def test_on_moved_ignore_says_nothing_of_the_tag(tool, workspace):
    tool.push("original")
    workspace.snakemake(flag="lock")
    tool.push("updated")
    result = workspace.snakemake("--forceall", flag="{mode: lock, on_moved: ignore}")

    assert [line for line in result.ours if line.startswith("moved")] == []


def test_a_dry_run_writes_nothing_and_says_what_would_be_locked(tool, workspace):
    digest = tool.push("original")
    result = workspace.snakemake("--dry-run", flag="lock")

    assert f"would be added: {tool.reference} → {digest[:19]}" in result.ours
    assert set(workspace.files()) == {"Snakefile"}


def test_an_update_that_moves_nothing_says_that_it_asked(tool, workspace):
    tool.push("original")
    workspace.snakemake(flag="lock")

    assert workspace.snakemake("--dry-run", flag="update").ours == [
        "apptainer-freshness: 1 image pinned by containers.lock (mode update): 1 current"
    ]


def test_the_summary_stays_where_quiet_leaves_a_line_below_it(tool, workspace):
    tool.push("original")
    workspace.snakemake(flag="lock")
    tool.push("updated")

    summary, moved, _ = workspace.snakemake("--dry-run", "--forceall", "--quiet", "rules", flag="lock").ours
    assert summary.endswith(": 1 moved")
    assert moved.startswith("moved: ")


def test_an_index_that_changed_around_this_platforms_image_is_told_apart(tool, workspace):
    from tests.support import images

    here = images.tiny_image("same")
    other = "arm64" if here.architecture == "amd64" else "amd64"
    images.push(images.multi_arch(here, other), tool.registry.host, tool.name, "1.0")
    workspace.snakemake(flag="lock")
    images.push(images.multi_arch(here, other, "s390x"), tool.registry.host, tool.name, "1.0")

    moved = workspace.snakemake("--forceall", flag="lock").ours[1]
    assert "the image for this platform is the same" in moved


def test_pin_platform_runs_this_platforms_manifest(tool, workspace):
    from tests.support import images

    here = images.tiny_image("platform")
    other = "arm64" if here.architecture == "amd64" else "amd64"
    images.push(images.multi_arch(here, other), tool.registry.host, tool.name, "1.0")
    workspace.snakemake(flag="{pin: platform}")

    assert workspace.metadata("message.txt")["container_img_url"] == tool.pinned(here.digest)
    assert workspace.read("message.txt") == "platform\n"


def test_no_mode_touches_a_lock_that_says_what_is_so(tool, workspace):
    tool.push("original")
    workspace.snakemake(flag="lock")
    before = workspace.files()["containers.lock"]
    for mode in ("lock", "locked", "frozen", "update"):
        workspace.snakemake("--forceall", "--dry-run", flag=mode)
    workspace.snakemake("--forceall", flag="update")

    assert workspace.files()["containers.lock"] == before
    assert lockfile.dumps(workspace.lock()).encode() == before


def test_with_the_registry_down_a_full_lock_runs_and_says_that_it_could_not_check(tmp_path, workspace):
    from tests.support.registry import RealRegistry
    from tests.support.repositories import Repository

    with RealRegistry(tmp_path / "registry") as registry:
        tool = Repository(registry, "a/tool")
        tool.push("original")
        workspace.write("Snakefile", READS_MESSAGE.format(image=tool.reference))
        workspace.snakemake(flag="lock")
        registry.stop()
        result = workspace.snakemake("--forceall", flag="lock")

    assert workspace.read("message.txt") == "original\n"
    assert "1 unreachable" in result.ours[0]
    assert result.ours[1].startswith(f"unreachable: {tool.reference}: could not ask whether the tag moved: ")


def test_with_the_registry_down_and_no_lock_nothing_runs(tmp_path, workspace):
    from tests.support.registry import RealRegistry
    from tests.support.repositories import Repository

    with RealRegistry(tmp_path / "registry") as registry:
        tool = Repository(registry, "a/tool")
        workspace.write("Snakefile", READS_MESSAGE.format(image=tool.reference))
        registry.stop()
        result = workspace.snakemake(flag="lock", fails=True)

    assert "cannot pin a container image" in result.output
    assert "Traceback" not in result.output
    assert set(workspace.files()) == {"Snakefile"}


def test_a_registry_that_never_answers_costs_a_few_seconds_and_one_line(workspace):
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        names = [f"docker://{host}/a/tool{number}:1" for number in range(40)]
        rules = [
            f'rule tool{n}:\n    output: "{n}.txt"\n    container: "{name}"\n    shell: ""\n'
            for n, name in enumerate(names)
        ]
        workspace.write("Snakefile", "\n".join(rules))
        write_lock(workspace.folder / "containers.lock", before=Lock(), after=Lock.of(map(lock_entry, names)))
        asked = workspace.snakemake("--dry-run", "0.txt", flag="{timeout: 1}")
        forbidden = workspace.snakemake(
            "--dry-run", "0.txt", flag="lock", environment={"SNAKEMAKE_APPTAINER_FRESHNESS_OFFLINE": "1"}
        )

    assert asked.ours[0].endswith("(mode lock): 40 unreachable")
    [line] = asked.ours[1:]
    assert line == (
        f"unreachable: {', '.join(names[:3])} and 37 more: could not ask whether 40 tags moved: "
        f"{host} did not answer in time"
    )
    assert forbidden.ours == ["apptainer-freshness: 40 images pinned by containers.lock (mode frozen): 40 unchecked"]


def test_runs_in_a_loop_ask_once_whether_tags_moved(tool, workspace):
    remembering = {CHECK_EVERY: "15m"}
    tool.push("original")
    workspace.snakemake(flag="lock", environment=remembering)
    tool.registry.clear()
    told = [workspace.snakemake("--forceall", flag="lock", environment=remembering).ours[0] for _ in range(3)]
    workspace.snakemake("--forceall", "--dry-run", flag="locked", environment=remembering)

    assert tool.our_questions() == []
    assert all(": 1 current (asked " in line for line in told)
    images = [json.loads(path.read_text()) for path in sorted((workspace.folder / FOLDER).glob("*.json"))]
    asked = [event["asked_at"] for run in images for event in run["events"] if event["event"] == "image"]
    assert len(asked) == 4
    assert len(set(asked[1:])) == 1  # the record has the time of the answer, not that of the run
    program = (sys.executable, "-c", "from snakemake_apptainer_freshness.cli import main; main()")
    assert "asked " in workspace.run(*program, "status", environment=remembering).stdout
    assert tool.our_questions() == []


def test_a_move_that_is_not_asked_about_is_told_when_the_time_is_over_or_the_user_asks(tool, workspace):
    tool.push("original")
    workspace.snakemake(flag="lock", environment={CHECK_EVERY: "15m"})
    tool.push("updated")

    kept = workspace.snakemake("--forceall", flag="lock", environment={CHECK_EVERY: "15m"})
    asked = workspace.snakemake("--forceall", flag="{check_every: 0}", environment={CHECK_EVERY: "15m"})
    assert ": 1 current (asked " in kept.ours[0]
    assert ": 1 moved" in asked.ours[0]
    assert workspace.read("message.txt") == "original\n"


def test_mode_update_asks_whatever_is_remembered(tool, workspace):
    tool.push("original")
    workspace.snakemake(flag="lock", environment={CHECK_EVERY: "15m"})
    tool.push("updated")
    workspace.snakemake("--forceall", flag="update", environment={CHECK_EVERY: "15m"})

    assert workspace.read("message.txt") == "updated\n"
    tool.registry.clear()
    kept = workspace.snakemake("--forceall", flag="lock", environment={CHECK_EVERY: "15m"})
    assert ": 1 current (asked " in kept.ours[0]
    assert tool.our_questions() == []
