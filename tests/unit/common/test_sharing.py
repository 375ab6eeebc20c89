"""Files that take their room once, where the file system can do that."""

from __future__ import annotations

import os

import pytest

from snakemake_apptainer_freshness.common import sharing
from snakemake_apptainer_freshness.common.files import NotAFile


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"image")
    return path


def test_a_link_has_the_same_bytes_and_takes_no_room_of_its_own(image, tmp_path):
    assert sharing.link(image, tmp_path / "name") is True
    assert (tmp_path / "name").read_bytes() == b"image"


def test_a_hard_link_is_made_where_there_are_no_reflinks(image, tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "share", lambda *_: False)
    assert sharing.link(image, tmp_path / "name") is True
    assert image.samefile(tmp_path / "name")


def test_no_hard_link_is_made_of_a_file_of_another_user(image, tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "share", lambda *_: False)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert sharing.link(image, tmp_path / "name") is False
    assert not (tmp_path / "name").exists()


def test_no_link_is_followed(image, tmp_path):
    (tmp_path / "link").symlink_to(image)
    with pytest.raises(NotAFile):
        sharing.link(tmp_path / "link", tmp_path / "name")


def test_what_is_replaced_by_the_same_is_there_at_every_moment(image, tmp_path):
    other = tmp_path / "entry"
    other.write_bytes(b"other")
    sharing.replace_by_same(other, image)
    assert other.read_bytes() == b"image"
    sharing.replace_by_same(other, image)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["entry", "image"]


def test_what_cannot_be_linked_stays(image, tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "share", lambda *_: False)
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(18, "other file system")))
    other = tmp_path / "entry"
    other.write_bytes(b"other")
    sharing.replace_by_same(other, image)
    assert other.read_bytes() == b"other"
