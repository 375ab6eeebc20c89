"""A file is read only where none but trusted users can have put it there, in every part of its path."""

import os
import re
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.common import trusted
from snakemake_apptainer_freshness.common.trusted import Untrusted, is_unmapped, list_in, named, read_in, trusted_folder

OWNERS = frozenset({0, os.geteuid()})
NOBODY = frozenset({os.geteuid() + 12345})


@pytest.fixture
def store(tmp_path):
    """A folder with ``inner/fact``, all of it this user's alone to write."""
    folder = tmp_path / "store"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "fact").write_bytes(b"content")
    for path in (folder / "inner" / "fact", folder / "inner", folder):
        path.chmod(0o644 if path.is_file() else 0o755)
    return folder


def content_of(store, owners=OWNERS, *, names=("inner", "fact"), limit=100):
    with trusted_folder(store, owners) as folder:
        return read_in(folder, names, owners, limit)


def test_what_a_trusted_user_alone_can_have_written_is_read(store):
    assert content_of(store) == b"content"


def test_a_folder_is_listed_in_order(store):
    for name in ("b", "a"):
        (store / "inner" / name).touch()
    with trusted_folder(store, OWNERS) as folder:
        assert list_in(folder, ("inner",), OWNERS) == ["a", "b", "fact"]
        assert list_in(folder, (), OWNERS) == ["inner"]


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_stays_open(store):
    before = open_files()
    content_of(store)
    with pytest.raises(Untrusted):
        content_of(store, NOBODY)
    with pytest.raises(FileNotFoundError):
        content_of(store / "none")
    assert open_files() == before


def test_the_path_itself_has_to_belong_to_a_trusted_user(store):
    with pytest.raises(Untrusted, match=r"/ belongs to user 0"):
        content_of(store, NOBODY)


@pytest.mark.parametrize("path", [".", "inner", "inner/fact"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_may_write_is_not_read(store, path, mode):
    part = store / path
    part.chmod(part.stat().st_mode | mode)
    with pytest.raises(Untrusted, match=rf"others may write to .*{re.escape(part.name)} \(mode"):
        content_of(store)


def test_a_folder_on_the_way_may_be_shared_if_it_is_sticky(store):
    store.parent.chmod(0o1777)
    assert content_of(store) == b"content"
    store.parent.chmod(0o777)
    with pytest.raises(Untrusted, match="others may write"):
        content_of(store)


def test_the_folder_that_was_asked_for_may_not_be_shared_even_if_it_is_sticky(store):
    store.chmod(0o1777)
    with pytest.raises(Untrusted, match="others may write"):
        content_of(store)


def test_no_link_is_followed_on_the_way(store):
    link = store.with_name("link")
    link.symlink_to(store)
    with pytest.raises(Untrusted, match="link is a symbolic link"):
        content_of(link)
    (store / "again").symlink_to("inner")
    with pytest.raises(Untrusted, match="again is a symbolic link"):
        content_of(store, names=("again", "fact"))


def test_no_link_is_followed_at_the_end(store):
    (store / "link").symlink_to("inner/fact")
    with pytest.raises(OSError, match="symbolic link"):
        content_of(store, names=("link",))


def test_what_is_no_regular_file_is_not_waited_for(store):
    os.mkfifo(store / "fifo", 0o600)
    with pytest.raises(Untrusted, match="fifo is no regular file"):
        content_of(store, names=("fifo",))


def test_a_file_in_place_of_a_folder_is_refused(store):
    with pytest.raises(Untrusted, match="fact is no folder"):
        content_of(store, names=("inner", "fact", "more"))


@pytest.mark.parametrize("path", ["relative", "/tmp/../etc"])
def test_a_path_that_can_mean_two_places_is_refused(path, store):
    with pytest.raises(Untrusted, match="no absolute path"):
        content_of(Path(path))


def test_no_more_is_read_than_is_allowed(store):
    assert content_of(store, limit=7) == b"content"
    with pytest.raises(ValueError, match="fact"):
        content_of(store, limit=6)


@pytest.fixture
def namespace(tmp_path, monkeypatch):
    """A user namespace with this map of users; the kernel shows all others as user 65534."""

    def enter(uid_map):
        (tmp_path / "map").write_text(uid_map)
        (tmp_path / "overflow").write_text("65534\n")
        monkeypatch.setattr(trusted, "_UID_MAP", tmp_path / "map")
        monkeypatch.setattr(trusted, "_OVERFLOW", tmp_path / "overflow")

    return enter


@pytest.mark.parametrize(
    ("uid_map", "unmapped"),
    [
        ("         0          0 4294967295\n", []),  # the machine itself
        ("      1000       1000          1\n", [65534]),  # apptainer exec
        ("         0       1000          1\n", [65534]),  # --fakeroot, unshare -r
        ("         0       1000          1\n         1     100000      65536\n", [65534]),  # podman
        ("", [65534]),  # unshare -U
    ],
)
def test_the_number_of_all_users_that_a_namespace_does_not_map_is_no_user(namespace, uid_map, unmapped):
    namespace(uid_map)
    assert [uid for uid in (0, 1000, 65534) if is_unmapped(uid)] == unmapped
    assert ("does not map, even root" in named(65534)) is bool(unmapped)
    assert named(1000) == "user 1000"


def test_where_the_kernel_does_not_say_it_every_number_is_a_user(namespace, tmp_path):
    namespace("nonsense")
    assert not is_unmapped(65534)
    (tmp_path / "map").unlink()
    assert not is_unmapped(65534)


def test_nobody_trusts_the_number_of_all_unmapped_users_although_it_is_listed(store, namespace, monkeypatch):
    namespace("")
    (Path(trusted._OVERFLOW)).write_text(str(os.geteuid()))
    with pytest.raises(Untrusted, match="even root") as error:
        content_of(store)
    assert error.value.is_unmapped
