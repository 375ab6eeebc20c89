"""Writing a bundle: whole or not under its name, gone on with, into a pipe, or unpacked into a folder."""

from __future__ import annotations

import io

import pytest

from snakemake_apptainer_freshness.actions.bundle import BundleSelection, gather
from snakemake_apptainer_freshness.actions.pack import partial_of, save, stream, there_already, unpacked
from snakemake_apptainer_freshness.errors import LocalIOError, UnprovenImage
from snakemake_apptainer_freshness.store.bundle_layout import CONTENTS
from tests.support.bundles import entry_text, saved
from tests.support.images import Image
from tests.support.proofs import Served, file, layer

CONTENT = Image(layers=(layer(file("one", "1" * 3000)), layer(file("two", "2" * 3000))))


@pytest.fixture(autouse=True)
def _no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("APPTAINER_CACHEDIR", str(tmp_path / "apptainer"))


def gathered(folder):
    (folder / "containers.lock").write_text(entry_text(CONTENT))
    registry = Served(content=CONTENT)
    return gather(folder / "containers.lock", BundleSelection(prefix=folder), registry=registry, advance=lambda _: None)


def files_of(folder):
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def test_an_unpacked_bundle_has_each_file_and_last_its_contents(tmp_path):
    bundle, done = gathered(tmp_path), []
    unpacked(bundle, tmp_path / "out", done.append)
    found = files_of(tmp_path / "out")

    assert found.keys() == {member.name for member in bundle.contents.files} | {CONTENTS}
    assert found[CONTENTS].read_bytes() == bundle.contents.dumps()
    assert {member.name: found[member.name].stat().st_size for member in bundle.contents.files} == {
        member.name: member.size for member in bundle.contents.files
    }
    assert sum(done) == bundle.contents.size


def test_what_is_there_and_sound_stays_and_what_is_damaged_is_written_anew(tmp_path):
    bundle = gathered(tmp_path)
    unpacked(bundle, tmp_path / "out", lambda _: None)
    before = files_of(tmp_path / "out")
    kept, damaged = (before[member.name] for member in bundle.contents.files[-2:])
    content, inode = damaged.read_bytes(), kept.stat().st_ino
    damaged.write_bytes(bytes(len(content)))
    unpacked(bundle, tmp_path / "out", lambda _: None)

    assert damaged.read_bytes() == content
    assert kept.stat().st_ino == inode


def test_what_an_earlier_folder_has_is_linked_from_there_unless_it_is_damaged(tmp_path):
    bundle = gathered(tmp_path)
    unpacked(bundle, tmp_path / "first", lambda _: None)
    names = [member.name for member in bundle.contents.files]
    damaged = tmp_path / "first" / names[-1]
    content = damaged.read_bytes()
    damaged.write_bytes(bytes(len(content)))
    unpacked(bundle, tmp_path / "second", lambda _: None, earlier=[tmp_path / "first"])

    same = [name for name in names if (tmp_path / "second" / name).samefile(tmp_path / "first" / name)]
    assert same == names[:-1]
    assert (tmp_path / "second" / names[-1]).read_bytes() == content


def test_how_much_is_there_is_told_by_name_and_size(tmp_path):
    bundle = gathered(tmp_path)
    assert there_already(bundle, [tmp_path / "first"]) == 0
    unpacked(bundle, tmp_path / "first", lambda _: None)
    assert there_already(bundle, [tmp_path / "none", tmp_path / "first"]) == bundle.contents.size
    (tmp_path / "first" / bundle.contents.files[-1].name).write_bytes(b"")
    assert there_already(bundle, [tmp_path / "first"]) == bundle.contents.size - bundle.contents.files[-1].size


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(LocalIOError, match="cannot write the bundle"):
        unpacked(gathered(tmp_path), tmp_path / "out", lambda _: None)


def test_what_was_written_before_the_saving_stopped_is_not_fetched_again(tmp_path):
    lock = tmp_path / "containers.lock"
    lock.write_text(entry_text(CONTENT))
    target = tmp_path / "all.tar"
    first, second = CONTENT.layers

    def attempt(registry):
        bundle = gather(lock, BundleSelection(prefix=tmp_path), registry=registry, advance=lambda _: None)
        done = []
        save(bundle, target, done.append)
        return bundle, sum(done)

    gone = Served(content=CONTENT, lies={second.digest: second.content[:100]})
    with pytest.raises(UnprovenImage):
        attempt(gone)
    assert partial_of(target).exists()
    assert not target.exists()
    again = Served(content=CONTENT)
    bundle, done = attempt(again)

    assert first.digest not in again.asked
    assert second.digest in again.asked
    assert done == bundle.contents.size
    assert target.read_bytes() == saved(CONTENT, tmp_path / "anew").read_bytes()
    assert not partial_of(target).exists()


class Parts(Served):
    """Remembers from where each blob was asked for; a rest is given again and again where it is `endless`."""

    endless = False

    def __init__(self):
        super().__init__(content=CONTENT)
        self.starts = []

    def blob(self, reference, digest, start=0):
        self.starts.append((str(digest), start))
        while start and self.endless:
            yield bytes(1000)
        yield from super().blob(reference, digest, start)


SECOND = CONTENT.layers[1]


def saved_upto(folder, size, *, add=b"", change=None):
    """A saving of `folder` that was killed so many bytes behind the start of the second layer; how it goes on.

    The bytes that are there are followed by what is to `add`, after the byte at `change` became another.
    """
    target, whole = folder / "all.tar", saved(CONTENT, folder / "whole").read_bytes()
    start = whole.index(SECOND.content)
    there = bytearray(whole[: start + size])
    if change is not None:
        there[start + change] ^= 1
    partial_of(target).write_bytes(there + add)
    (folder / "containers.lock").write_text(entry_text(CONTENT))
    registry, done = Parts(), []
    selection = BundleSelection(prefix=folder)
    bundle = gather(folder / "containers.lock", selection, registry=registry, advance=lambda _: None)
    save(bundle, target, done.append)

    assert target.read_bytes() == whole
    assert sum(done) == bundle.contents.size
    assert not partial_of(target).exists()
    return [begun for digest, begun in registry.starts if digest == SECOND.digest]


@pytest.mark.parametrize("size", [1, 20, len(SECOND.content) - 1])
def test_a_blob_that_was_begun_is_gone_on_with(tmp_path, size):
    assert saved_upto(tmp_path, size) == [size]


def test_a_blob_of_which_nothing_is_there_is_begun(tmp_path):
    assert saved_upto(tmp_path, 0) == [0]


def test_a_blob_of_which_all_but_its_padding_is_there_is_not_asked_for(tmp_path):
    assert saved_upto(tmp_path, len(SECOND.content)) == []


@pytest.mark.parametrize("size", [20, len(SECOND.content) - 1])
def test_a_beginning_with_another_byte_is_thrown_away(tmp_path, size):
    assert saved_upto(tmp_path, size, change=7) == [size, 0]


def test_a_whole_blob_with_another_byte_is_thrown_away(tmp_path):
    assert saved_upto(tmp_path, len(SECOND.content), change=7) == [0]


def test_a_beginning_that_is_longer_than_the_blob_is_thrown_away(tmp_path):
    assert saved_upto(tmp_path, len(SECOND.content), add=b"more" * 1000, change=7) == [0]


def test_a_beginning_under_the_name_of_another_blob_is_thrown_away(tmp_path):
    """Its header is that of the first layer, as of a bundle in another order."""
    whole = saved(CONTENT, tmp_path / "order").read_bytes()
    first = whole.index(CONTENT.layers[0].content)
    assert saved_upto(tmp_path, -512, add=whole[first - 512 : first + 30]) == [0]


def test_a_rest_that_does_not_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(Parts, "endless", True)
    assert saved_upto(tmp_path, 20) == [20, 0]


def test_what_is_left_of_another_bundle_is_not_gone_on_with(tmp_path):
    partial_of(tmp_path / "all.tar").write_bytes(b"something else" * 1000)
    bundle = saved(CONTENT, tmp_path)

    assert bundle.read_bytes() == saved(CONTENT, tmp_path / "anew").read_bytes()


def test_an_unfinished_bundle_that_is_a_link_is_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    partial_of(tmp_path / "all.tar").symlink_to(victim)
    with pytest.raises(LocalIOError, match="cannot write the bundle"):
        saved(CONTENT, tmp_path)
    assert victim.read_text() == "mine"


def test_a_pipe_gets_the_same_bytes(tmp_path):
    bundle = saved(CONTENT, tmp_path)
    out = io.BytesIO()
    content = gather(
        tmp_path / "containers.lock",
        BundleSelection(prefix=tmp_path),
        registry=Served(content=CONTENT),
        advance=lambda _: None,
    )
    stream(content, out, lambda _: None)

    assert out.getvalue() == bundle.read_bytes()
