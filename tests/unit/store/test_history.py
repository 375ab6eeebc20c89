"""The memory: what is kept between runs, and what a file has to be to be believed."""

import json
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.errors import LocalIOError
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.store import facts, history, state
from snakemake_apptainer_freshness.store.history import ProvenTag, TagHistory, load, save
from tests.support import pins
from tests.support.pins import lock_entry

URL = "docker://quay.io/team/tool:1.0"
SEEN = ProvenTag(
    url=URL,
    digest=pins.DIGEST,
    manifest=pins.MANIFEST,
    platform=Platform.parse("linux/amd64"),
    since=1000.0,
    until=2000.0,
    sha256="5a" * 32,
    stat=StatKey(host="here", device=1, inode=2, size=3, mtime_ns=4, ctime_ns=5),
    proven_by="proven by comparison with its layers",
)


def entry(digest, platforms=None):
    return lock_entry(reference=URL, digest=str(digest), media_type="x", platforms=platforms or {})


def filled():
    known = TagHistory()
    known.learn(SEEN)
    hashed = entry(pins.DIGEST, {"linux/amd64": str(pins.MANIFEST)})
    facts.learn([hashed])
    known.learn_entries([hashed])
    return known


def test_what_only_a_lock_says_of_an_index_is_not_learned():
    known = TagHistory()
    known.learn_entries([entry(pins.OTHER, {"linux/amd64": str(pins.MANIFEST)})])

    assert known.manifest(pins.OTHER, Platform.parse("linux/amd64")) is None


def test_what_was_learned_is_there_again(tmp_path):
    path = history.path_in(tmp_path)
    save(path, filled())
    again = load(path)

    assert path.is_relative_to(state.folder())  # never in the project, which may be a clone
    assert again.problem == ""
    assert again.images(URL) == [SEEN]
    assert again.manifest(pins.DIGEST, Platform.parse("linux/amd64")) == pins.MANIFEST
    assert again.manifest(pins.DIGEST, Platform.parse("linux/arm64")) is None
    assert not again.has_news


def test_the_same_facts_give_the_same_bytes():
    assert filled().dumps() == TagHistory.loads(filled().dumps()).dumps()


def test_a_digest_that_is_no_index_has_itself():
    from snakemake_apptainer_freshness.image.platform import Platform

    known = TagHistory()
    known.learn_entries([entry(pins.OTHER)])

    assert known.manifest(pins.OTHER, Platform.parse(str(Platform.here()))) == pins.OTHER


def test_no_file_is_an_empty_memory_and_no_news_is_no_file(tmp_path):
    path = history.path_in(tmp_path)
    known = load(path)
    save(path, known)

    assert known.problem == ""
    assert not path.exists()


def test_what_another_process_wrote_meanwhile_is_kept(tmp_path):
    path = history.path_in(tmp_path)
    mine, theirs = load(path), load(path)
    theirs.learn(replace(SEEN, url="docker://quay.io/team/other:1.0"))
    save(path, theirs)
    mine.learn(SEEN)
    save(path, mine)

    assert len(load(path).images(URL)) == len(load(path).images("docker://quay.io/team/other:1.0")) == 1


def test_an_image_that_is_seen_again_is_one_row_that_reaches_further():
    known = filled()
    known.learn(replace(SEEN, until=3000.0, sha256="", stat=None))
    known.learn(SEEN)

    assert known.images(URL) == [replace(SEEN, until=3000.0)]


@pytest.mark.parametrize(("moment", "covered"), [(997.0, False), (998.5, True), (1500.0, True), (2000.1, False)])
def test_a_row_speaks_of_the_time_in_which_the_file_was_that_one(moment, covered):
    assert SEEN.covers(moment) is covered


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "must be a table"),
        (b'{"version": true}', "no version"),
        (b'{"version": 2}', "version 2"),
        (b'{"version": 1, "manifests": {}}', "it lacks images"),
        (
            b'{"version": 1, "manifests": {"sha256:x": {"linux/amd64": "sha256:y"}}, "images": []}',
            "manifests.sha256:x is wrong",
        ),
        (b'{"version": 1, "manifests": {}, "images": [{"url": 1}]}', "images[1] lacks "),
    ],
)
def test_a_file_that_is_no_memory_proves_nothing_and_says_why(tmp_path, content, problem):
    path = history.path_in(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)

    assert problem in load(path).problem
    assert load(path).images(URL) == []


@pytest.mark.parametrize("key", ["url", "digest", "manifest", "platform", "since", "until", "sha256", "stat"])
def test_a_row_with_a_value_of_another_type_is_damage(key):
    table = json.loads(filled().dumps())
    table["images"][0][key] = ["x"]

    assert TagHistory.loads(json.dumps(table).encode()).problem.startswith(f"images[1].{key} ")


def test_a_file_that_anyone_may_write_to_or_that_is_a_link_proves_nothing(tmp_path):
    path = history.path_in(tmp_path)
    save(path, filled())
    path.chmod(0o666)
    assert load(path).problem == "every user may write it"

    path.chmod(0o644)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert load(path).problem == "it is a symbolic link"


def test_an_unusable_file_is_moved_aside_and_not_overwritten(tmp_path):
    path = history.path_in(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text('{"version": 2}')
    save(path, filled())

    assert load(path).images(URL) == [SEEN]
    assert path.with_name(f"{path.name}.unusable").read_text() == '{"version": 2}'


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path):
    path = history.path_in(tmp_path)
    state.write(path.parent, b"")
    with pytest.raises(LocalIOError, match=path.name) as caught:
        save(path, filled())

    assert str(path.parent) in caught.value.hint


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    path = history.path_in(tmp_path)
    save(path, filled())
    before = path.read_bytes()
    known = load(path)
    known.learn(replace(SEEN, since=5.0))

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LocalIOError, match="No space left"):
        save(path, known)

    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({"version": st.just(1), "manifests": _json, "images": _json}) | _json)
def test_whatever_stands_in_the_file_it_is_read_or_refused(table):
    known = TagHistory.loads(json.dumps(table).encode())

    assert known.problem or TagHistory.loads(known.dumps()).dumps() == known.dumps()


@given(st.binary(max_size=200))
def test_whatever_bytes_are_in_the_file_they_are_refused(content):
    assert TagHistory.loads(content).problem
