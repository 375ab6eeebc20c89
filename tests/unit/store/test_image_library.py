"""The catalog of a library: what is found in it for a digest, and what is looked at again."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.errors import InvalidSettings
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.settings import LIBRARY, parse_options
from snakemake_apptainer_freshness.store import facts, image_library
from snakemake_apptainer_freshness.store.image_library import Catalog, LibraryItem
from tests.support import sifs
from tests.support.pins import DIGEST, MANIFEST, OTHER, REPOSITORY, fact_of, pin


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "library"
    folder.mkdir()
    return folder


def put(path: Path, reference: str = f"{REPOSITORY}@{DIGEST}", image_id: bytes = bytes(16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sifs.pulled(reference, image_id=image_id))
    return path


def box(path: Path, reference: str) -> Path:
    (path / ".singularity.d").mkdir(parents=True)
    (path / ".singularity.d" / "labels.json").write_text(json.dumps(sifs.labels_of(reference)))
    return path


def age(folder: Path) -> None:
    """Let a folder be one that was not touched for long."""
    then = time.time() - 2 * LIBRARY.settle
    os.utime(folder, (then, then))


def found(root: Path) -> list[str]:
    return [str(item.path.relative_to(root)) for item in image_library.search(pin(), [Catalog.of(root)])]


def test_images_are_found_by_what_they_say_the_digest_before_the_tag(root):
    put(root / "a" / "by tag.sif".replace(" ", "-"), f"{REPOSITORY}:1.0")
    put(root / "b" / "any_name")
    box(root / "b" / "sandbox", f"{REPOSITORY}@{DIGEST}")
    put(root / "b" / "another", f"{REPOSITORY}@{OTHER}")
    put(root / "b" / "another-tag", f"{REPOSITORY}:2.0")
    (root / "b" / "notes.txt").write_text("no image")
    assert found(root) == ["b/any_name", "b/sandbox", "a/by-tag.sif"]


def test_an_image_is_found_by_the_digest_of_its_platform(root):
    put(root / "one.sif", f"quay.io/elsewhere/other@{MANIFEST}")
    put(root / "two.sif", f"{REPOSITORY}@{OTHER}")
    assert found(root) == ["one.sif"]


@pytest.mark.parametrize("reference", ["ubuntu", "ubuntu:latest", "library/ubuntu", "docker.io/ubuntu:latest"])
@pytest.mark.parametrize("named", ["ubuntu", "docker.io/library/ubuntu:latest", "index.docker.io/library/ubuntu"])
def test_an_image_is_found_by_its_tag_however_both_are_spelled(root, reference, named):
    put(root / "tool.sif", named)
    put(root / "other.sif", "quay.io/library/ubuntu")
    wanted = replace(pin(), reference=parse(f"docker://{reference}"))
    assert [item.path.name for item in image_library.search(wanted, [Catalog.of(root)])] == ["tool.sif"]


def test_an_image_of_several_names_is_looked_into_once_and_found_once(root, monkeypatch):
    put(root / "one.sif")
    for name in ("a", "z"):
        (root / name).symlink_to("one.sif")
    looked = []
    look = LibraryItem.look
    monkeypatch.setattr(LibraryItem, "look", lambda item: (looked.append(item.path.name), look(item)))
    age(root)
    assert found(root) == ["one.sif"]
    assert found(root) == ["one.sif"]
    assert looked == ["one.sif"]


def test_what_is_known_to_be_of_the_size_of_a_proven_image_comes_first(root):
    put(root / "bound.sif")
    unlabelled = root / "z.sif"
    unlabelled.write_bytes(sifs.pulled("", labels={}) + bytes(4096))
    facts.keep(fact_of(unlabelled.read_bytes(), pin()))
    assert found(root) == ["z.sif", "bound.sif"]


def test_nothing_is_looked_into_twice_where_nothing_changed(root, monkeypatch):
    put(root / "one.sif")
    age(root)
    assert found(root) == ["one.sif"]
    monkeypatch.setattr(LibraryItem, "look", lambda _: pytest.fail("looked into again"))
    monkeypatch.setattr(Catalog, "_listed", lambda *_: pytest.fail("listed again"))
    assert found(root) == ["one.sif"]


def test_a_folder_that_changed_is_listed_again(root):
    put(root / "one.sif", f"{REPOSITORY}@{OTHER}")
    age(root)
    assert found(root) == []
    put(root / "two.sif")
    assert found(root) == ["two.sif"]


def test_a_folder_that_changed_a_moment_ago_is_listed_again_since_it_could_keep_its_time(root):
    assert found(root) == []
    before = root.stat()
    put(root / "one.sif")
    os.utime(root, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found(root) == ["one.sif"]


def test_one_search_looks_into_so_many_those_with_a_like_name_first_and_the_next_goes_on(root, monkeypatch):
    monkeypatch.setattr(image_library, "LIBRARY", LIBRARY._replace(heads=2))
    for number in range(4):
        put(root / f"other{number}.sif", f"{REPOSITORY}@{OTHER}")
    put(root / "other9.sif")
    put(root / "zz-TOOL_1.0.sif")
    assert found(root) == ["zz-TOOL_1.0.sif"]
    assert found(root) == ["zz-TOOL_1.0.sif"]
    assert found(root) == ["other9.sif", "zz-TOOL_1.0.sif"]


def test_a_library_is_listed_within_bounds(root, monkeypatch):
    monkeypatch.setattr(image_library, "LIBRARY", LIBRARY._replace(entries=3, depth=2))
    put(root / "a" / "b" / "c" / "too-deep.sif")
    for number in range(5):
        put(root / f"{number}.sif")
    assert len(Catalog.of(root).index.items) <= 3


def test_links_within_a_library_are_followed_and_none_out_of_it(root, tmp_path):
    put(root / ".flat" / "ab12")
    (root / "tool").mkdir()
    (root / "tool" / "1.0").symlink_to("../.flat/ab12")
    put(tmp_path / "outside.sif")
    (root / "tool" / "outside").symlink_to(tmp_path / "outside.sif")
    (root / "loop").symlink_to(".")
    (root / "dangling").symlink_to("nowhere")
    assert found(root) == [".flat/ab12"]


@pytest.mark.parametrize("name", ["a;touch x.sif", "a b.sif", "$(id).sif", "a\nb.sif", "a'b.sif", "a*.sif", "ä.sif"])
def test_a_name_in_which_a_shell_reads_something_is_not_used(root, name):
    put(root / name)
    assert found(root) == []
    image_library.remember(pin(), root / name)
    assert image_library.remembered(pin(), [root]) is None


def test_what_was_found_is_remembered_while_its_library_is_named(root, tmp_path):
    image = put(root / "one.sif")
    image_library.remember(pin(), image)
    assert image_library.remembered(pin(), [tmp_path / "other", root]) == image
    assert image_library.remembered(pin(), [tmp_path / "other"]) is None
    assert image_library.remembered(pin(OTHER), [root]) is None


def test_a_catalog_that_is_damaged_is_made_anew(root):
    put(root / "one.sif")
    catalog = Catalog.of(root)
    whole = json.loads(catalog._path().read_bytes())
    folder = whole["folders"][str(root)]
    for damage in (
        b"{",
        b"[]",
        b'{"version": 1}',
        _spelled(whole | {"folders": []}),
        _spelled(whole | {"more": 1}),
        *(
            _spelled(whole | {"folders": {str(root): folder | change}})
            for change in ({"changed": "1"}, {"images": []}, {"images": {"one.sif": 5}}, {"folders": [1]})
        ),
        *(_spelled(whole | {"folders": {str(root): row}}) for row in ([], {}, folder | {"more": 1})),
    ):
        catalog._path().write_bytes(damage)
        assert found(root) == ["one.sif"]


@pytest.mark.parametrize(
    "content", ["", "{}", '{"version": 1}', '{"version": 1, "path": 5}', '{"version": 2, "path": "%s"}']
)
def test_a_damaged_note_of_what_was_found_says_nothing(root, content):
    image = put(root / "one.sif")
    image_library.remember(pin(), image)
    image_library._note_of(DIGEST, pin()).write_text(content.replace("%s", str(image)))
    assert image_library.remembered(pin(), [root]) is None


def _spelled(table):
    return json.dumps(table).encode()


def test_a_library_that_is_not_there_has_nothing(root):
    assert image_library.search(pin(), [Catalog.of(root / "not-mounted")]) == []


@pytest.mark.parametrize("value", ["relative", ["relative"], [1], "/a:b", ["/a b"], ["/a;b"], {"/a": 1}])
def test_libraries_in_a_configuration_are_absolute_paths(value):
    with pytest.raises(InvalidSettings, match="images cannot be"):
        parse_options({"images": value}, source="--config")


def test_libraries_in_a_configuration_are_a_list_or_a_text():
    wanted = (Path("/a"), Path("/b/c"))
    assert parse_options({"images": ["/a", "/b/c"]}, source="").images == wanted
    assert parse_options({"images": "/a:/b/c"}, source="").images == wanted
