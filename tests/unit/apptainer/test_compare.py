"""What Apptainer is known to change between layers and image, and that everything else is a difference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.apptainer.compare import differences
from snakemake_apptainer_freshness.image.tree import FileType, Node

ONE, TWO = b"\x01" * 32, b"\x02" * 32
FILE = Node(kind=FileType.FILE, mode=0o640, owner=(10, 20), size=3, sha256=ONE)
EMPTY = replace(FILE, size=0, sha256=b"\0" * 32)
LINK = Node(kind=FileType.LINK, mode=0o777, target=b"there")
DEVICE = Node(kind=FileType.CHARACTER, mode=0o666, device=(1, 3))
PIPE = Node(kind=FileType.FIFO, mode=0o600)
OWN = Node(kind=FileType.FILE, mode=0o755, size=5, sha256=TWO)


def folder(mode: int = 0o755, *, implied: bool = False, **children: Node) -> Node:
    return Node(
        kind=FileType.FOLDER,
        mode=mode,
        implied=implied,
        children={name.replace("_", ".").encode(): node for name, node in children.items()},
    )


def found(layers: Node, image: Node, inserted: Node | None = None) -> list[str]:
    return [str(difference) for difference in differences(layers, inserted or folder(), image)]


def compared(wanted: Node, there: Node) -> list[str]:
    return found(folder(x=wanted), folder(x=there))


@pytest.mark.parametrize("node", [FILE, LINK, DEVICE, PIPE, folder(y=FILE)])
def test_what_is_the_same_is_no_difference(node):
    assert compared(node, node) == []


@pytest.mark.parametrize(
    ("wanted", "there", "what"),
    [
        (FILE, replace(FILE, sha256=TWO), "/x: its content is another one than in its layers"),
        (FILE, replace(FILE, size=4), "/x: has 4 bytes, by its layers 3"),
        (FILE, replace(FILE, mode=0o4640), "/x: has mode 4640, by its layers 0640"),
        (FILE, replace(FILE, owner=(10, 21)), "/x: its owner is 10:21, by its layers 10:20"),
        (FILE, replace(FILE, capability=ONE), "/x: has capabilities that are not in its layers"),
        (replace(FILE, capability=TWO), replace(FILE, capability=ONE), "/x: has other capabilities than in its layers"),
        (FILE, LINK, "/x: is a symbolic link, its layers have a file"),
        (FILE, EMPTY, "/x: has 0 bytes, by its layers 3"),
        (LINK, replace(LINK, target=b"else"), "/x: leads to 'else', by its layers to 'there'"),
        (DEVICE, replace(DEVICE, device=(1, 5)), "/x: is device 1:5, by its layers 1:3"),
        (DEVICE, replace(DEVICE, kind=FileType.BLOCK), "/x: is a block device, its layers have a character device"),
        (DEVICE, replace(EMPTY, mode=0o777, owner=(0, 0)), "/x: has mode 0777, by its layers 0666"),
        (DEVICE, replace(FILE, mode=0o666), "/x: is a file, its layers have a character device"),
        (PIPE, EMPTY, "/x: is a file, its layers have a FIFO"),
        (folder(0o755), folder(0o700), "/x: has mode 0700, by its layers 0755"),
        (folder(implied=True), folder(0o1777), "/x: has mode 1777, which no umask explains"),
        (folder(implied=True), replace(folder(), owner=(10, 20)), "/x: its owner is 10:20, and not root"),
        (folder(y=FILE), folder(), "/x/y: is missing"),
        (folder(), folder(y=FILE), "/x/y: is in no layer"),
        (folder(0o300, y=FILE), folder(0o300), "/x/y: is missing"),
    ],
)
def test_what_differs_is_named(wanted, there, what):
    assert compared(wanted, there) == [what]


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        (FILE, replace(FILE, owner=(0, 0))),
        (replace(FILE, capability=ONE), FILE),
        (DEVICE, replace(EMPTY, mode=0o666, owner=(0, 0))),
        (replace(FILE, mode=0), replace(EMPTY, mode=0)),
        (replace(FILE, mode=0o200), replace(EMPTY, mode=0o200)),
        (folder(implied=True), folder(0o700)),
        (folder(implied=True), folder(0o775)),
        (LINK, replace(LINK, mode=0o755)),
    ],
)
def test_what_apptainer_is_known_to_change_is_no_difference(wanted, there):
    assert compared(wanted, there) == []


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o600])
def test_a_folder_that_its_owner_may_not_read_may_be_missing(mode):
    assert found(folder(x=folder(mode, y=FILE)), folder()) == []


def test_a_file_that_its_owner_may_not_read_may_not_be_missing():
    assert found(folder(x=replace(FILE, mode=0)), folder()) == ["/x: is missing"]


def test_an_unreadable_file_with_another_content_differs():
    assert compared(replace(FILE, mode=0), replace(FILE, mode=0, sha256=TWO)) != []


def test_the_root_becomes_writable_and_nothing_else():
    assert found(folder(0o555), folder(0o755)) == []
    assert found(folder(0o555), folder(0o555)) == []
    assert found(folder(0o555), folder(0o777)) == ["/: has mode 0777, by its layers 0555"]
    assert found(folder(x=folder(0o555)), folder(x=folder(0o755))) == ["/x: has mode 0755, by its layers 0555"]


def test_what_apptainer_inserts_has_to_be_there_as_it_is():
    inserted = folder(run=OWN)
    assert found(folder(), folder(run=OWN), inserted) == []
    assert found(folder(), folder(), inserted) == ["/run: is missing"]
    assert found(folder(), folder(run=replace(OWN, sha256=ONE)), inserted) == [
        "/run: is not what Apptainer writes there"
    ]
    assert found(folder(), folder(run=replace(OWN, mode=0o777)), inserted) == [
        "/run: has mode 0777, by its layers 0755"
    ]
    assert found(folder(), folder(run=LINK), inserted) == ["/run: is a symbolic link, Apptainer makes a file"]


def test_an_inserted_file_replaces_the_one_of_the_layers():
    layers, inserted = folder(etc=folder(hosts=FILE)), folder(etc=folder(hosts=OWN))
    assert found(layers, folder(etc=folder(hosts=OWN)), inserted) == []
    assert found(layers, folder(etc=folder(hosts=FILE)), inserted) == ["/etc/hosts: is not what Apptainer writes there"]


def test_an_inserted_file_does_not_replace_a_symbolic_link():
    layers, inserted = folder(etc=folder(hosts=LINK)), folder(etc=folder(hosts=OWN))
    assert found(layers, folder(etc=folder(hosts=LINK)), inserted) == []
    assert found(layers, folder(etc=folder(hosts=OWN)), inserted) != []


@pytest.mark.parametrize("inserted", [folder(0o755), LINK])
def test_an_inserted_folder_or_link_is_only_made_where_nothing_is(inserted):
    layers = folder(x=folder(0o1777))
    assert found(layers, folder(x=folder(0o1777)), folder(x=inserted)) == []
    assert found(layers, folder(x=inserted), folder(x=inserted)) != []


def test_the_mode_of_an_inserted_folder_is_the_umasks():
    assert found(folder(), folder(x=folder(0o700)), folder(x=folder(0o755))) == []
    assert found(folder(), folder(x=folder(0o1777)), folder(x=folder(0o755))) != []


def test_the_labels_may_have_any_content_and_no_other_mode():
    inserted = folder(_singularity_d=folder(labels_json=OWN))
    inserted = Node(
        kind=FileType.FOLDER,
        mode=0o755,
        children={b".singularity.d": folder(labels_json=OWN)},
    )

    def image(node: Node) -> Node:
        return Node(kind=FileType.FOLDER, mode=0o755, children={b".singularity.d": folder(labels_json=node)})

    assert found(folder(), image(replace(OWN, size=9, sha256=ONE)), inserted) == []
    assert found(folder(), image(replace(OWN, mode=0o777)), inserted) != []


def test_differences_say_whether_they_are_about_what_apptainer_inserts():
    inserted, image = folder(own=OWN), folder(own=EMPTY, strange=FILE)
    told = {d.path: d.of_apptainer for d in differences(folder(), inserted, image)}
    assert told == {b"own": True, b"strange": False}


def test_differences_come_in_the_order_of_their_paths():
    assert found(folder(), folder(b=FILE, a=folder(z=FILE, y=FILE), c=FILE)) == [
        "/a: is in no layer",
        "/b: is in no layer",
        "/c: is in no layer",
    ]
