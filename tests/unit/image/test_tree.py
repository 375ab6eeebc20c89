"""Trees: every path once, folders before what is in them, and names fit for a terminal."""

from snakemake_apptainer_freshness.image.tree import FileType, Node, shown


def folder(**children: Node) -> Node:
    return Node(kind=FileType.FOLDER, children={name.encode(): child for name, child in children.items()})


def test_every_path_is_walked_once_and_after_its_folder():
    file = Node(kind=FileType.FILE)
    paths = [path for path, _ in folder(usr=folder(bin=folder(tool=file)), etc=folder(), top=file).walk()]

    assert sorted(paths) == [b"etc", b"top", b"usr", b"usr/bin", b"usr/bin/tool"]
    assert all(paths.index(path.rpartition(b"/")[0]) < paths.index(path) for path in paths if b"/" in path)


def test_a_folder_that_nothing_describes_says_so():
    made = Node.made_folder(layer=3)

    assert (made.implied, made.layer, made.children) == (True, 3, {})


def test_only_devices_have_device_numbers():
    assert [kind for kind in FileType if kind.is_device] == [FileType.CHARACTER, FileType.BLOCK]


def test_a_hostile_name_is_shown_on_one_line_without_control_characters():
    text = shown(b"a\nb\x1b[31m\xff" + b"x" * 500)

    assert text.startswith("/a\\nb")
    assert text.isprintable()
    assert len(text) < 220
