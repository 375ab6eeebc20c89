"""What a SIF says of itself, and what it cannot make us do."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.errors import CorruptImage
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.settings import DISK
from tests.support import sifs
from tests.support.sifs import Header, Object

DIGEST = "sha256:" + "ab" * 32
PINNED = f"quay.io/team/tool@{DIGEST}"


class Counting(io.BytesIO):
    """A file that counts what is read of it."""

    bytes_read = 0
    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.bytes_read += len(content)
        self.reads += 1
        return content


def reason(image: bytes) -> str:
    with pytest.raises(CorruptImage) as caught:
        sif.read(io.BytesIO(image))
    return caught.value.message


def test_an_image_pulled_by_digest_says_so():
    image = sif.read(io.BytesIO(sifs.pulled(PINNED)))

    assert image.pulled_digest == Digest.parse(DIGEST)
    assert image.pulled_reference == PINNED
    assert image.architecture == "amd64"
    assert image.version == "01"
    assert image.builder == "apptainer 1.4.5"
    assert image.definition == f"bootstrap: docker\nfrom: {PINNED}\n\n"
    assert [d.name for d in image.descriptors] == ["", "inspect-metadata.json", "oci-config.json", "docker"]
    assert image.partition is not None
    assert (image.partition.filesystem, image.partition.size, image.squashfs_size) == (1, 4096, 4096)
    assert image.root_index is None


def test_an_image_without_an_identifier_of_its_own_was_written_reproducibly():
    assert sif.read(io.BytesIO(sifs.pulled(PINNED, image_id=bytes(16)))).is_reproducible
    assert not sif.read(io.BytesIO(sifs.pulled(PINNED))).is_reproducible


def test_an_image_pulled_by_tag_has_no_digest():
    image = sif.read(io.BytesIO(sifs.pulled("quay.io/team/tool:1.0")))
    assert image.pulled_reference == "quay.io/team/tool:1.0"
    assert image.pulled_digest is None


def test_an_image_built_from_a_pinned_one_and_then_changed_was_not_pulled():
    definition = f"bootstrap: docker\nfrom: {PINNED}\n%post\n    rm -rf /usr/bin/tool\n"
    assert sif.read(io.BytesIO(sifs.pulled(PINNED, definition=definition))).pulled_digest is None


def test_an_image_built_from_something_else_than_a_registry_was_not_pulled():
    labels = sifs.labels_of(PINNED) | {sif.BOOTSTRAP: "localimage"}
    assert sif.read(io.BytesIO(sifs.pulled(PINNED, labels=labels))).pulled_digest is None


@pytest.mark.parametrize(
    ("version", "believed"),
    [
        ("1.5.0", True),
        ("1.5.0-rc.1", True),
        ("1.10.2", True),
        ("2.0.0", True),
        ("1.4.5", False),
        ("1.4.99", False),
        ("", False),
    ],
)
def test_a_base_digest_is_believed_from_apptainer_1_5_on(version, believed):
    labels = sifs.labels_of("quay.io/team/tool:1.0", version=version, extra={sif.BASE_DIGEST: DIGEST})
    image = sif.read(io.BytesIO(sifs.pulled(labels=labels)))
    assert image.base_digest == (Digest.parse(DIGEST) if believed else None)


def test_singularity_names_itself_as_the_builder():
    image = sif.read(io.BytesIO(sifs.pulled(labels={sif.SINGULARITY_VERSION: "3.8.7"})))
    assert image.builder == "singularity 3.8.7"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (b"01\0", "386"),
        (b"02\0", "amd64"),
        (b"03\0", "arm"),
        (b"04\0", "arm64"),
        (b"06\0", "ppc64le"),
        (b"11\0", "s390x"),
        (b"12\0", "riscv64"),
        (b"00\0", ""),
        (b"99\0", ""),
    ],
)
def test_architectures_have_the_names_of_go(code, name):
    assert sif.read(io.BytesIO(sifs.pulled(architecture=code))).architecture == name


def test_an_oci_sif_names_its_root_index():
    image = sif.read(io.BytesIO(sifs.build([Object(type=sifs.ROOT_INDEX, content=b"{}", extra=DIGEST.encode())])))
    assert image.root_index == Digest.parse(DIGEST)
    assert image.partition is None


def test_a_path_is_read_as_well_as_a_file(tmp_path):
    path = tmp_path / "image.sif"
    path.write_bytes(sifs.pulled(PINNED))
    assert sif.read(path) == sif.read(str(path)) == sif.read(io.BytesIO(sifs.pulled(PINNED)))


def test_a_large_image_is_read_in_two_reads_of_its_head():
    content = sifs.squashfs(100, used=64 * 1024 * 1024) + bytes(64 * 1024 * 1024)
    objects = [
        Object(type=sifs.JSON, content=b"x" * 100_000, name="oci-config.json"),
        Object(type=sifs.PARTITION, content=content, extra=sifs.partition_extra()),
    ]
    file = Counting(sifs.build(objects))
    sif.read(file)
    assert file.reads == 2
    assert file.bytes_read < DISK.sif_head + 4096


def test_labels_behind_the_file_system_are_found():
    objects = [
        Object(type=sifs.PARTITION, content=sifs.squashfs(200_000), extra=sifs.partition_extra()),
        Object(type=sifs.JSON, content=sifs.metadata(sifs.labels_of(PINNED)), name="inspect-metadata.json"),
    ]
    file = Counting(sifs.build(objects))
    assert sif.read(file).pulled_reference == PINNED
    assert file.bytes_read < DISK.sif_head + 4096


def test_an_unused_descriptor_is_no_object():
    image = bytearray(sifs.pulled(PINNED))
    image[sifs.TABLE_OFFSET + 4 * sifs.DESCRIPTOR.size + 4 + 1 + 12 : sifs.TABLE_OFFSET + 5 * sifs.DESCRIPTOR.size] = (
        b"\xff" * (sifs.DESCRIPTOR.size - 17)
    )
    assert len(sif.read(io.BytesIO(bytes(image))).descriptors) == 4


def test_what_is_not_a_sif_is_corrupt():
    sound = sifs.pulled(PINNED)
    assert reason(b"") == "empty"
    assert reason(sound[:100]) == "only 100 bytes long"
    assert "magic bytes of a SIF" in reason(os.urandom(100_000))
    assert "magic bytes of a SIF" in reason(b"\0" * 100_000)
    assert "version" in reason(sifs.build([], Header(version=b"02")))
    assert "version" in reason(sifs.build([], Header(version=b"\xff")))


@pytest.mark.parametrize("missing", [1, 100, 4096, 5000, 40_000])
def test_a_truncated_image_is_corrupt_wherever_it_was_cut(missing):
    sound = sifs.pulled(PINNED)
    assert "truncated" in reason(sound[:-missing])


def test_a_squashfs_shorter_than_it_says_is_corrupt():
    assert "squashfs says that it has 8192 bytes" in reason(sifs.pulled(PINNED, content=sifs.squashfs(4096, used=8192)))
    assert "magic bytes of squashfs" in reason(sifs.pulled(PINNED, content=b"\0" * 4096))
    assert "shorter than a superblock" in reason(sifs.pulled(PINNED, content=b"hsqs"))


@pytest.mark.parametrize("total", [0, -1, 257, 2**40, 2**63 - 1, -(2**63)])
def test_a_hostile_count_of_objects_is_corrupt(total):
    assert "objects" in reason(sifs.build([], Header(total=total)))


@pytest.mark.parametrize("offset", [-1, 0, 127, 2**40, 2**63 - 1])
def test_a_hostile_offset_of_the_table_is_corrupt(offset, tmp_path):
    (tmp_path / "image.sif").write_bytes(sifs.build([], Header(offset=offset)))
    with pytest.raises(CorruptImage, match=r"table of objects (?:lies in|should end at byte)"):
        sif.read(tmp_path / "image.sif")


@pytest.mark.parametrize(
    ("offset", "size"),
    [(-1, 10), (2**62, 2**62), (2**63 - 1, 2**63 - 1), (0, 10), (10, 2**50), (33000, -5), (4096, 8000)],
)
def test_a_hostile_object_is_corrupt(offset, size):
    hostile = Object(type=sifs.DEFINITION, content=b"x", offset=offset, size=size)
    sound = Object(type=sifs.PARTITION, content=sifs.squashfs(), extra=sifs.partition_extra())
    reason(sifs.build([hostile, sound]))


def test_labels_of_unreasonable_size_are_not_read():
    huge = Object(type=sifs.JSON, content=b"{" + b" " * DISK.sif_metadata, name="inspect-metadata.json")
    sound = Object(type=sifs.PARTITION, content=sifs.squashfs(), extra=sifs.partition_extra())
    file = Counting(sifs.build([huge, sound]))
    with pytest.raises(CorruptImage, match="unreasonably large"):
        sif.read(file)
    assert file.bytes_read <= DISK.sif_read


def test_no_more_is_read_than_the_limit_however_much_is_in_bounds():
    definition = Object(type=sifs.DEFINITION, content=b"#" * (DISK.sif_metadata - 1))
    labels = Object(type=sifs.JSON, content=b"{}" + b" " * (DISK.sif_metadata - 3), name="inspect-metadata.json")
    sound = Object(type=sifs.PARTITION, content=sifs.squashfs(), extra=sifs.partition_extra())
    file = Counting(sifs.build([definition, labels, sound]))
    with pytest.raises(CorruptImage):
        sif.read(file)
    assert file.bytes_read <= DISK.sif_read


def says_nothing(content):
    """That a SIF whose labels are this has none, or is corrupt for its JSON."""
    sound = Object(type=sifs.PARTITION, content=sifs.squashfs(), extra=sifs.partition_extra())
    image = sifs.build([Object(type=sifs.JSON, content=content, name="inspect-metadata.json"), sound])
    try:
        assert sif.read(io.BytesIO(image)).labels == {}
    except CorruptImage as error:
        assert "JSON" in error.message  # noqa: PT017  either is right


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'"text"',
        b'{"data": 1}',
        b'{"data": {"attributes": []}}',
        b'{"data": {"attributes": {"labels": [1]}}}',
        b'{"data": {"attributes": {"labels": {"a": 1, "b": null}}}}',
    ],
)
def test_labels_of_another_shape_say_nothing(content):
    says_nothing(content)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 40_000, b"1" * 100_000, b'{"a": 1e999999}', b'"\\ud800"']
)
def test_hostile_json_raises_nothing_of_its_own(content):
    says_nothing(content)


def test_a_key_that_stands_twice_in_the_labels_is_corrupt():
    labels = json.dumps(sifs.labels_of(PINNED))
    content = f'{{"data": {{"attributes": {{"labels": {labels}, "labels": {{}}}}}}}}'.encode()
    sound = Object(type=sifs.PARTITION, content=sifs.squashfs(), extra=sifs.partition_extra())
    assert "twice" in reason(sifs.build([Object(type=sifs.JSON, content=content, name="inspect-metadata.json"), sound]))


def test_two_of_what_there_should_be_one_of_is_corrupt():
    partition = Object(type=sifs.PARTITION, content=sifs.squashfs(), extra=sifs.partition_extra())
    labels = Object(type=sifs.JSON, content=sifs.metadata(sifs.labels_of(PINNED)), name="inspect-metadata.json")
    definition = Object(type=sifs.DEFINITION, content=b"bootstrap: docker")
    index = Object(type=sifs.ROOT_INDEX, content=b"{}", extra=DIGEST.encode())
    assert "two primary file systems" in reason(sifs.build([partition, partition]))
    assert "two objects" in reason(sifs.build([labels, labels, partition]))
    assert "two objects" in reason(sifs.build([definition, definition, partition]))
    assert "two OCI indexes" in reason(sifs.build([index, index]))


def test_an_image_without_any_file_system_is_corrupt():
    assert "neither" in reason(sifs.build([]))
    data = Object(type=sifs.PARTITION, content=sifs.squashfs(), extra=sifs.partition_extra(kind=3))
    assert "neither" in reason(sifs.build([data]))


def test_two_architectures_are_corrupt():
    partition = Object(type=sifs.PARTITION, content=sifs.squashfs(), extra=sifs.partition_extra(sifs.ARM64))
    assert "amd64" in reason(sifs.build([partition], Header(architecture=sifs.AMD64)))


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("elsewhere")])
def test_what_is_not_a_file_is_corrupt_and_not_waited_for(tmp_path, make):
    path = tmp_path / "image.sif"
    (tmp_path / "elsewhere").write_bytes(sifs.pulled(PINNED))
    make(path)
    with pytest.raises(CorruptImage, match="not a file but a"):
        sif.read(path)
