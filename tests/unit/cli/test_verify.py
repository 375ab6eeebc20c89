"""``apptainer-freshness verify``."""

import os
import shutil
from pathlib import Path

import pytest

from snakemake_apptainer_freshness import cli
from snakemake_apptainer_freshness.apptainer.cache import keys
from snakemake_apptainer_freshness.common import parallel
from snakemake_apptainer_freshness.store.prefix import image_name, image_path
from tests.support import pins, sifs


def test_a_proven_image_is_nothing_to_report(good):
    answer = good.run("verify")

    assert answer.status == 0
    assert answer.rows[0][:4] == [
        "verified",
        pins.pin().reference.text,
        "lock",
        str(image_path(good.prefix, pins.pin().url)),
    ]
    assert answer.err == "1 image: nothing to report\n"


def test_an_image_that_is_not_there_is_a_finding_and_pull_is_named(place):
    place.lock(pins.pin())
    answer = place.run("verify")

    assert (answer.status, answer.rows[0][0]) == (1, "absent")
    assert answer.err.endswith("apptainer-freshness pull\n")


def test_full_hashes_what_a_stat_would_vouch_for(good):
    image = image_path(good.prefix, pins.pin().url)
    pins.settle(image)
    assert good.run("verify").rows[0][4] == "untouched since its SHA-256 was checked"
    assert "recorded on" in good.run("verify", "--full").rows[0][4]


def test_the_image_of_pin_platform_is_found_where_it_is_the_one_that_is_there(place):
    wanted = pins.pin()
    place.lock(wanted)
    url = f"docker://{pins.REPOSITORY}@{pins.MANIFEST}"
    image = image_path(place.prefix, url)
    image.parent.mkdir(parents=True)
    image.write_bytes(sifs.pulled(f"{pins.REPOSITORY}@{pins.MANIFEST}"))
    answer = place.run("verify")

    assert [(row[0], row[3]) for row in answer.rows] == [("bound", str(image))]


@pytest.mark.parametrize(
    ("content", "word", "status"),
    [
        (sifs.pulled("quay.io/else/where:1"), "unbound", 0),
        (sifs.pulled(f"quay.io/else/where@{pins.OTHER}"), "bound", 0),
        (b"", "corrupt", 1),
    ],
)
def test_an_image_of_another_workflow_is_listed_and_only_its_damage_counts(good, content, word, status):
    name = image_name(f"docker://quay.io/else/where@{pins.OTHER}")
    (good.prefix / name).write_bytes(content)
    answer = good.run("verify")
    [row] = [row for row in answer.rows if row[2] == "prefix"]

    assert (row[0], answer.status) == (word, status)


def test_an_image_under_the_name_of_another_is_attributed_to_nothing(good):
    (good.prefix / image_name("docker://quay.io/else/where:1")).write_bytes(sifs.pulled(f"quay.io/x/y@{pins.OTHER}"))
    [row] = [row for row in good.run("verify").rows if row[2] == "prefix"]

    assert row[:2] == ["unbound", "-"]
    assert "its name is not that of what its label says" in row[4]


def entry(place, key, content):
    path = place.cache / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_an_entry_of_the_cache_under_a_pins_key_that_holds_another_image_is_stale(good):
    path = entry(good, keys(pins.pin())[0], sifs.pulled(f"{pins.REPOSITORY}@{pins.OTHER}"))
    answer = good.run("verify")

    assert (answer.status, answer.rows[0][0], answer.rows[0][3]) == (1, "stale", str(path))


def test_an_entry_of_the_cache_that_names_no_digest_is_counted(good):
    entry(good, f"oci-tmp/{'1' * 64}", sifs.pulled("quay.io/some/thing:1"))
    answer = good.run("verify")

    assert len(answer.rows) == 1
    assert "not listed: 1 entry of Apptainer's cache" in answer.err
    assert good.run("verify", "--json").json["unattributed"] == 1


def test_an_entry_whose_name_is_its_hash_is_held_to_it(good):
    entry(good, f"library/sha256.{'1' * 64}", sifs.pulled("library/default/thing:1"))
    [row] = [row for row in good.run("verify").rows if row[2] == "cache"]

    assert row[0] == "stale"


def test_a_path_is_held_to_the_lock_where_its_label_leads_there(good, tmp_path):
    image = tmp_path / "other.sif"
    image.write_bytes(sifs.pulled(f"{pins.REPOSITORY}@{pins.DIGEST}", content=sifs.squashfs(filler=b"\x66")))
    answer = good.run("verify", image)

    assert [row[:3] for row in answer.rows] == [["bound", pins.pin().reference.text, "path"]]


def test_a_copy_of_a_proven_image_is_proven_wherever_it_lies(good, tmp_path):
    image = tmp_path / "copy.sif"
    image.write_bytes(sifs.pulled(f"{pins.REPOSITORY}@{pins.DIGEST}"))
    answer = good.run("verify", image)

    assert [row[:3] for row in answer.rows] == [["verified", pins.pin().reference.text, "path"]]
    assert answer.status == 0


def test_a_path_needs_no_lock_and_an_image_by_tag_is_a_finding(place):
    Path("by tag.sif").write_bytes(sifs.pulled())
    answer = place.run("verify", "by tag.sif")

    assert (answer.status, answer.rows[0][0]) == (1, "unbound")


def test_a_folder_stands_for_the_images_in_it(place):
    Path("images").mkdir()
    for name in ("a.sif", "b.simg", "notes.txt"):
        Path("images", name).write_bytes(sifs.pulled(f"{pins.REPOSITORY}@{pins.DIGEST}"))
    answer = place.run("verify", "images")

    assert [Path(row[3]).name for row in answer.rows] == ["a.sif", "b.simg"]


def test_an_image_for_another_machine_is_judged_for_that_machine(place):
    Path("arm.sif").write_bytes(sifs.pulled(f"{pins.REPOSITORY}@{pins.DIGEST}", architecture=sifs.ARM64))
    answer = place.run("verify", "--json", "arm.sif")

    assert (answer.json["image"][0]["state"], answer.json["image"][0]["platform"]) == ("bound", "linux/arm64")


def test_repair_fetches_what_is_not_proven_and_keeps_the_former_file(good):
    image = image_path(good.prefix, pins.pin().url)
    image.write_bytes(b"")
    good.fake.serve(pins.pin())
    answer = good.run("verify", "--repair", "--json")

    assert answer.status == 0
    assert [one["state"] for one in answer.json["image"]] == ["verified"]
    [mended] = answer.json["repair"]
    assert mended["fetched"]
    assert Path(mended["quarantined"]).exists()


def test_repair_makes_a_bound_image_a_verified_one(place):
    place.lock(pins.pin())
    pins.put(place.prefix, pins.pin())
    place.fake.serve(pins.pin())

    assert place.run("verify").rows[0][0] == "bound"
    assert place.run("verify", "--repair").rows[0][0] == "verified"


def test_what_cannot_be_repaired_is_an_error_with_its_own_status(place):
    place.lock(pins.pin())
    place.fake.behave("echo manifest unknown; exit 1")
    answer = place.run("verify", "--repair", "--json")

    assert answer.status == 3
    assert [one["error"] for one in answer.json["error"]] == ["AttemptFailed"]
    assert [one["state"] for one in answer.json["image"]] == ["absent"]


def test_repair_moves_a_damaged_image_that_no_lock_names_aside_and_fetches_none(good):
    damaged = good.prefix / f"{'a' * 32}.simg"
    damaged.write_bytes(b"")
    answer = good.run("verify", "--repair")

    assert answer.status == 0
    assert not damaged.exists()
    assert len(list(good.prefix.glob("a*.quarantine-*"))) == 1
    assert good.fake.pulls == []


def test_repair_never_touches_a_file_that_was_given(place):
    Path("mine.sif").write_bytes(b"")
    answer = place.run("verify", "--repair", "mine.sif")

    assert answer.status == 2
    assert Path("mine.sif").exists()


def test_a_sif_file_that_the_lock_names_is_looked_for_where_it_lies(place):
    import hashlib

    from snakemake_apptainer_freshness.lockfile import Lock, dumps

    content = sifs.pulled()
    Path("tool.sif").write_bytes(content)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    local = pins.lock_entry("tool.sif", digest)
    Path("containers.lock").write_text(dumps(Lock.of([local])))
    before = place.run("verify")
    Path("tool.sif").write_bytes(content + b"more")
    after = place.run("verify", "--repair")

    assert (before.status, before.rows[0][0]) == (0, "verified")
    assert (after.status, after.rows[0][0]) == (3, "stale")
    assert "no registry can give back" in after.err


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "there is no lock file here"),
        (["--lockfile", "gone.lock"], 2, "there is no lock file gone.lock"),
        (["--lockfile", "."], 2, "is a folder"),
        (["gone.sif"], 2, "does not exist"),
        (["empty"], 2, "there is no image in empty"),
        (["--jobs", "2"], 2, "--jobs is for --repair"),
        (["--nonsense"], 2, "No such option"),
    ],
)
def test_wrong_use_is_one_clear_message(place, arguments, status, says):
    Path("empty").mkdir()
    answer = place.run("verify", *arguments)

    assert answer.status == status
    assert says in answer.err
    assert answer.out == ""


@pytest.mark.parametrize("text", ["not TOML [", "version = 2\n", "version = 1\nother = 1\n", "\0\xff"])
def test_a_damaged_lock_is_one_clear_message(place, text):
    Path("containers.lock").write_text(text)
    answer = place.run("verify")

    assert answer.status == 2
    assert "containers.lock" in answer.err


@pytest.mark.parametrize(
    ("prefix", "says"), [("file", "is not a folder"), ("gone", "there is no image folder"), ("", "empty")]
)
def test_a_prefix_that_is_not_one_is_wrong_use(good, prefix, says):
    Path("file").touch()
    answer = good.run("verify", "--prefix", prefix)

    assert answer.status == 2
    assert says in answer.err


def test_the_lock_in_the_workflow_folder_is_found(good):
    Path("workflow").mkdir()
    shutil.move("containers.lock", "workflow/containers.lock")

    assert good.run("verify", "--json").json["lockfile"] == "workflow/containers.lock"


def test_a_terminal_gets_a_table_that_fits_and_colour(good, terminal):
    terminal()
    answer = good.run("verify")

    assert answer.out.splitlines()[0].strip().startswith("\x1b[1mdisk")
    assert "\x1b[32mverified" in answer.out


def test_no_color_takes_every_escape_away(good, terminal, monkeypatch):
    terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    answer = good.run("verify")

    assert "\x1b" not in answer.out
    assert all(len(line) <= 80 for line in answer.out.splitlines())


def test_hostile_text_reaches_no_terminal(place):
    name = "evil\x1b[2J.sif"
    Path(name).write_bytes(sifs.pulled("quay.io/a/b:1\x1b]0;owned\x07"))
    answer = place.run("verify", name)

    assert "\x1b" not in answer.out
    assert "\x1b" not in place.run("verify", "--json", name).out


def test_a_name_that_is_no_text_is_shown_all_the_same(place):
    name = os.fsdecode(b"\xff.sif")
    Path(name).write_bytes(b"")

    assert place.run("verify", name).status == 1
    assert place.run("verify", "--json", name).json["image"][0]["path"].endswith("\udcff.sif")


def test_ctrl_c_while_images_are_hashed_stops_at_once(good, monkeypatch):
    def interrupted(_self):
        raise KeyboardInterrupt

    monkeypatch.setattr(parallel.Task, "result", interrupted)
    answer = good.run("verify")

    assert answer.status == 130
    assert answer.err.strip() == "interrupted"


def test_every_command_has_a_line_in_the_help(capsys):
    assert cli.run(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"\n  {name} " in shown
