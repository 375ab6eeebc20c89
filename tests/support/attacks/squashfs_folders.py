"""Inodes, folders and superblocks that two readers of a squashfs would understand in two ways."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.squashfs_tables import NO_FRAGMENT, Patched
from tests.support.squashfses import BLOCK


def two_inodes_of_one_number(image: Patched) -> object:
    number = image.of_inode("evil", "number")
    return image.inode("evil", number=image.of_inode("tool", "number")).entry(
        "evil", delta=image.get(image.entry_at("evil") + 2, "h") + image.of_inode("tool", "number") - number
    )


def too_large_a_number(image: Patched) -> object:
    return image.inode("evil", number=2**32 - 1)


def hard_link_to_an_empty_file(image: Patched) -> object:
    return image.leads_to("tool", "nothing")


def entry_of_another_type(image: Patched) -> object:
    return image.entry("evil", kind=3)


def entry_of_another_number(image: Patched) -> object:
    return image.entry("evil", delta=image.get(image.entry_at("evil") + 2, "h") + 1)


def entry_to_another_place(image: Patched) -> object:
    return image.entry("evil", offset=image.get(image.entry_at("tool"), "H"))


def entry_of_a_number_that_is_not_there(image: Patched) -> object:
    return image.run("evil", base=2**31)


def more_links_than_entries(image: Patched) -> object:
    return image.inode("tool", links=4)


def fewer_inodes_than_it_says(image: Patched) -> object:
    return image.superblock(inodes=image.says("inodes") + 1)


def more_than_four_billion_inodes(image: Patched) -> object:
    return image.superblock(inodes=2**32 - 1)


def no_inodes(image: Patched) -> object:
    return image.superblock(inodes=0)


def folder_in_two_folders(image: Patched) -> object:
    return image.leads_to("vacant", "other")


def folder_that_contains_its_parent(image: Patched) -> object:
    number = image.of_inode("inner", "number")
    return image.leads_to("deep", "bin").inode("bin", parent=number)


def folders_in_a_circle(image: Patched) -> object:
    """`bin` and `inner` list each other, and the root lists `deep` in the place of `bin`."""
    deep = image.of_inode("deep", "number")
    image.inode("bin", parent=image.of_inode("inner", "number")).inode("deep", parent=image.of_inode("", "number"))
    at, there = image.inode_at("bin"), image.inode_at("deep")
    image.leads_to("deep", "bin")
    base = image.get(image.run_at("bin") + 8, "I")
    entry = image.entry_at("bin")
    image.put(entry, "H", there - image.says("inode_table") - 2)
    image.put(entry + 2, "h", deep - base)
    assert at != there
    return image


def root_in_a_folder(image: Patched) -> object:
    return image.leads_to("vacant", "other").superblock(root=image.inode_at("other") - image.says("inode_table") - 2)


def root_that_is_a_file(image: Patched) -> object:
    return image.superblock(root=image.inode_at("tool") - image.says("inode_table") - 2)


def another_parent(image: Patched) -> object:
    return image.inode("other", parent=image.of_inode("vacant", "number"))


def another_number_of_folders(image: Patched) -> object:
    return image.inode("other", links=5)


def names_out_of_order(image: Patched) -> object:
    return image.entry("blocks", first=ord("z"))


def name_with_a_slash(image: Patched) -> object:
    return image.entry("blocks", first=ord("/"))


def name_that_is_the_folder_above(image: Patched) -> object:
    return image.replace(b"\x03\x00evil", b"\x01\x00..il")


def entry_longer_than_the_listing(image: Patched) -> object:
    return image.entry("vacant", length=255)


def run_longer_than_the_listing(image: Patched) -> object:
    return image.run("evil", last=200)


def run_of_four_billion_entries(image: Patched) -> object:
    return image.run("evil", last=2**32 - 1)


def listing_that_ends_in_a_header(image: Patched) -> object:
    return image.inode("other", size=image.of_inode("other", "size") + 5)


def listings_that_overlap(image: Patched) -> object:
    """`inner` lists what `other` lists, beside its own."""
    image.inode("deep", size=image.of_inode("inner", "size"), offset=image.of_inode("inner", "offset"))
    return image


def listings_that_leave_the_first_out(image: Patched) -> object:
    return without_listing(image, min)


def listings_that_leave_the_last_out(image: Patched) -> object:
    return without_listing(image, max)


def without_listing(image: Patched, which: Callable[..., str]) -> Patched:
    """`image` without the listing that stands first or last in the table."""
    folder = which(("", "bin", "inner", "other"), key=lambda name: image.of_inode(name, "offset"))
    return image.inode(folder, size=3, links=2)


def folder_without_room_for_its_dots(image: Patched) -> object:
    return image.inode("vacant", size=2)


def listing_in_the_middle_of_a_block(image: Patched) -> object:
    return image.inode("other", block=7)


def index_to_another_place(image: Patched) -> object:
    return image.inode("large", index_block=image.of_inode("large", "index_block") + 8194)


def index_with_another_name(image: Patched) -> object:
    return image.inode("large", index_name=ord("5"))


def index_into_the_middle_of_a_run(image: Patched) -> object:
    return image.inode("large", index_offset=image.of_inode("large", "index_offset") + 1)


def index_with_an_endless_name(image: Patched) -> object:
    return image.inode("large", index_size=2**32 - 1)


def inode_of_an_unknown_kind(image: Patched) -> object:
    return image.inode("evil", kind=15)


def inode_whose_mode_makes_it_a_link(image: Patched) -> object:
    return image.inode("evil", mode=0o120755)


def owner_that_is_not_there(image: Patched) -> object:
    return image.inode("evil", user=9)


def link_without_a_target(image: Patched) -> object:
    return image.inode("link", size=0)


def link_with_an_endless_target(image: Patched) -> object:
    return image.inode("link", size=2**32 - 1)


def link_whose_target_ends_early(image: Patched) -> object:
    return image.inode("link", target=0)


def inodes_that_break_off(image: Patched) -> object:
    """The last inode, the root, is a FIFO, which takes less; what is left is no header."""
    return image.inode("", kind=6)


def table_that_ends_in_the_middle_of_an_inode(image: Patched) -> object:
    return image.inode("blocks", size=4000 * BLOCK, fragment=NO_FRAGMENT)


def table_in_short_blocks(image: Patched) -> object:
    """In two blocks, of which the first is not full: is what follows at 16 or at 8192?"""
    at = image.says("inode_table")
    size = image.get(at, "H") & 0x7FFF
    image.put(at, "H", 0x8000 | 16)
    image.put(at + 18, "H", 0x8000 | size - 18)
    return image


def table_behind_the_end(image: Patched) -> object:
    del image.content[image.says("used") :]
    return image.superblock(xattr_table=image.says("used") - 4)


def file_that_is_shorter_than_its_last_block(image: Patched) -> object:
    return image.inode("noise", size=2 * BLOCK - 1)


ATTACKS: dict[Callable[[Patched], object], str] = {
    two_inodes_of_one_number: "two inodes",
    too_large_a_number: "two inodes of its file system have one number, or one that is too large",
    hard_link_to_an_empty_file: "in fewer or more folders than it says",
    entry_of_another_type: "lists /evil as another inode than it is",
    entry_of_another_number: "lists /evil as another inode than it is",
    entry_to_another_place: "lists /evil as another inode than it is",
    entry_of_a_number_that_is_not_there: "lists /evil as another inode than it is",
    more_links_than_entries: "in fewer or more folders than it says",
    fewer_inodes_than_it_says: "not where its index says, or not as long",
    more_than_four_billion_inodes: "more than 2000000 entries",
    no_inodes: "impossible counts",
    folder_in_two_folders: "in fewer or more folders than it says",
    folder_that_contains_its_parent: "another parent",
    folders_in_a_circle: "in a circle",
    root_in_a_folder: "a root folder|no root folder|another parent",
    root_that_is_a_file: "no root folder",
    another_parent: "another parent than the one that lists it",
    another_number_of_folders: "another number of links than folders in it",
    names_out_of_order: "in no order",
    name_with_a_slash: "which is no name",
    name_that_is_the_folder_above: "which is no name",
    entry_longer_than_the_listing: "which is no name|breaks off",
    run_longer_than_the_listing: "which is no name|breaks off|as another inode",
    run_of_four_billion_entries: "too many entries",
    listing_that_ends_in_a_header: "breaks off|another inode|in no order|ends in the middle",
    listings_that_overlap: "another parent|overlap",
    listings_that_leave_the_first_out: "leave something out",
    listings_that_leave_the_last_out: "leave something out",
    folder_without_room_for_its_dots: "a folder of an impossible size",
    listing_in_the_middle_of_a_block: "the middle of a block of a table",
    inode_of_an_unknown_kind: "an inode of an unknown kind",
    inode_whose_mode_makes_it_a_link: "an inode with an impossible mode",
    owner_that_is_not_there: "an owner that is not in its table",
    link_without_a_target: "a symbolic link with an impossible target",
    link_with_an_endless_target: "a symbolic link with an impossible target",
    link_whose_target_ends_early: "a symbolic link with an impossible target",
    inodes_that_break_off: "the table of inodes of its file system breaks off",
    table_that_ends_in_the_middle_of_an_inode: "ends in the middle of an entry",
    table_in_short_blocks: "a block that is too short",
    table_behind_the_end: "refers to something behind its end",
    file_that_is_shorter_than_its_last_block: "longer than the file that it belongs to",
}
"""By what is refused of a small image: what is said."""

INDEX_ATTACKS: dict[Callable[[Patched], object], str] = {
    fewer_inodes_than_it_says: "another number of inodes than it says",
    index_to_another_place: "the index of a folder of its file system leads elsewhere",
    index_with_another_name: "the index of a folder of its file system leads elsewhere",
    index_into_the_middle_of_a_run: "the index of a folder of its file system leads elsewhere",
    index_with_an_endless_name: "an index with an impossible name",
}
"""The same of an image whose largest folder has an index."""
