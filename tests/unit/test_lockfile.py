"""The lock file: the same pins give the same bytes, and nothing unsound is believed."""

import tomllib
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness import lockfile
from snakemake_apptainer_freshness.errors import InvalidLock, NotLocked
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Change, Lock
from snakemake_apptainer_freshness.settings import PinKind
from tests.support.pins import lock_entry

A, B, C = ("sha256:" + letter * 64 for letter in "abc")
INDEX = "application/vnd.oci.image.index.v1+json"
HERE = Platform.parse("linux/amd64")
SALMON = "docker://quay.io/biocontainers/salmon:1.10.2--hecfa306_0"


def salmon(digest=A, **changes):
    return lock_entry(
        **{
            "reference": SALMON,
            "digest": digest,
            "media_type": INDEX,
            "platforms": {"linux/arm64": C, "linux/amd64": B},
        }
        | changes
    )


def busybox(digest=B, reference="docker://busybox"):
    return lock_entry(
        reference=reference,
        digest=digest,
        media_type="application/vnd.oci.image.manifest.v1+json",
        platforms={"linux/amd64": digest},
    )


def test_the_format_is_the_documented_one():
    assert lockfile.dumps(Lock.of([salmon()])) == (
        "# Container images of this workflow, pinned by snakemake-apptainer-freshness.\n"
        "# Commit this file, and review its changes as you review code.\n"
        "version = 1\n"
        "\n"
        "[[image]]\n"
        f'reference = "{SALMON}"\n'
        f'pinned = "docker://quay.io/biocontainers/salmon@{A}"\n'
        f'digest = "{A}"\n'
        f'media_type = "{INDEX}"\n'
        "\n"
        "[image.platforms]\n"
        f'"linux/amd64" = "{B}"\n'
        f'"linux/arm64" = "{C}"\n'
    )


def test_the_order_in_which_images_were_met_does_not_show():
    assert lockfile.dumps(Lock.of([salmon(), busybox()])) == lockfile.dumps(Lock.of([busybox(), salmon()]))


def test_what_was_dumped_loads_as_it_was():
    lock = Lock.of([salmon(), busybox()])

    assert lockfile.loads(lockfile.dumps(lock)) == lock
    assert lockfile.loads(lockfile.dumps(Lock())) == Lock()


def test_the_differences_of_two_locks_are_told_by_reference():
    old, new = Lock.of([salmon(), busybox()]), Lock.of([salmon(B)])

    assert lockfile.changes(old, new) == [
        Change(reference="docker://busybox", old=busybox(), new=None),
        Change(reference=SALMON, old=salmon(), new=salmon(B)),
    ]
    assert lockfile.changes(old, old) == []


def test_a_rule_can_be_pinned_to_the_index_or_to_this_platforms_manifest():
    assert salmon().pinned_to(PinKind.INDEX, HERE).text == f"docker://quay.io/biocontainers/salmon@{A}"
    assert salmon().pinned_to(PinKind.PLATFORM, HERE).text == f"docker://quay.io/biocontainers/salmon@{B}"


def test_a_platform_that_the_image_lacks_is_named_with_those_it_has():
    with pytest.raises(NotLocked, match=r"no image for linux/s390x: the lock lists linux/amd64, linux/arm64"):
        salmon().pinned_to(PinKind.PLATFORM, Platform.parse("linux/s390x"))


def sound():
    return tomllib.loads(lockfile.dumps(Lock.of([salmon()])))


def spelled(document):
    import tomli_w

    return tomli_w.dumps(document)


def with_entry(**changes):
    document = sound()
    document["image"][0] |= changes
    return document


def without(key):
    document = sound()
    del document["image"][0][key]
    return document


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (sound() | {"version": 2}, "has version 2; this program knows version 1"),
        (sound() | {"version": 0}, "version 0 never existed"),
        (sound() | {"version": True}, "it has no version"),
        (sound() | {"version": "1"}, "it has no version"),
        ({"image": []}, "it has no version"),
        (sound() | {"images": []}, "unknown key 'images'"),
        (sound() | {"image": {}}, "image must be a list of tables"),
        (sound() | {"image": [1]}, r"image\[1\] must be a table"),
        (with_entry(pined="x"), r"image\[1\] has an unknown key 'pined'; its keys are .* \(docker://quay\.io/.*\)"),
        (without("reference"), r"image\[1\] lacks reference"),
        (without("pinned"), r"image\[1\] lacks pinned \(docker://quay\.io/"),
        (without("media_type"), "lacks media_type"),
        (with_entry(digest=7), r"image\[1\]\.digest must be a text"),
        (with_entry(reference="docker://Salmon"), r"image\[1\]"),
        (with_entry(digest="sha256:abc"), "needs 64 hex digits"),
        (with_entry(digest=A.upper()), "the algorithm must be"),
        (with_entry(digest="sha256:../../../etc/passwd"), "needs 64 hex digits"),
        (with_entry(digest=A + "\n"), "control characters"),
        (with_entry(digest=B), "its reference and digest make"),
        (with_entry(pinned=f"docker://quay.io/evil/salmon@{A}"), "its reference and digest make"),
        (with_entry(pinned=f"docker://quay.io/biocontainers/salmon:1@{A}"), "its reference and digest make"),
        (with_entry(pinned="../salmon.sif"), "its reference and digest make"),
        (with_entry(reference=f"docker://quay.io/biocontainers/salmon@{B}"), "the reference itself names"),
        (with_entry(platforms={"linux": B}), "is not a platform"),
        (with_entry(platforms={"linux/amd64": "x"}), "is not a digest"),
        (with_entry(platforms={"linux/amd64": 3}), r"image\[1\]\.platforms\.linux/amd64 must be a text"),
        (with_entry(platforms=[]), r"image\[1\]\.platforms must be a table"),
        (with_entry(hints={"size": "3"}), "unknown key 'size'"),
        (with_entry(hints={"etag": 3}), r"image\[1\]\.hints\.etag must be a text"),
        (with_entry(media_type="x" * 3000), "must have at most 2048 characters"),
    ],
)
def test_a_lock_edited_into_nonsense_is_refused_with_the_entry_named(document, problem):
    with pytest.raises(InvalidLock, match=problem):
        lockfile.loads(spelled(document))


def test_a_syntax_error_is_told_with_its_line():
    with pytest.raises(InvalidLock, match="line 2"):
        lockfile.loads("version = 1\n[[image\n", source="here/containers.lock")


def test_the_file_is_named():
    with pytest.raises(InvalidLock, match=r"here/containers\.lock"):
        lockfile.loads("", source="here/containers.lock")


def test_an_entry_that_stands_twice_is_refused():
    document = sound()
    document["image"] *= 2

    with pytest.raises(InvalidLock, match=r"image\[2\] .* stands already as image\[1\]"):
        lockfile.loads(spelled(document))


def test_two_spellings_of_one_image_with_two_digests_contradict_each_other():
    document = {
        "version": 1,
        "image": [busybox().to_dict(), busybox(C, "docker://docker.io/library/busybox:latest").to_dict()],
    }

    with pytest.raises(InvalidLock, match=r"image\[2\] .* contradicts image\[1\]"):
        lockfile.loads(spelled(document))


def test_two_spellings_of_one_image_with_one_digest_agree():
    lock = Lock.of([busybox(), busybox(reference="docker://docker.io/library/busybox:latest")])

    assert lockfile.loads(lockfile.dumps(lock)) == lock


def test_files_and_web_addresses_stay_as_they_are_and_are_held_to_a_digest():
    entry = lock_entry(
        reference="https://example.org/x.sif",
        digest=A,
        media_type="application/vnd.sylabs.sif.layer.v1.sif",
        hints={"etag": '"abc"'},
    )

    assert lockfile.loads(lockfile.dumps(Lock.of([entry]))) == Lock.of([entry])


def test_another_spelling_of_an_entry_is_pinned_by_its_own_words():
    entry = lock_entry("file://x.sif", A)
    again = replace(entry, reference=parse("x.sif"))

    assert (entry.pinned.text, again.pinned.text) == ("file://x.sif", "x.sif")
    assert list(lockfile.loads(lockfile.dumps(Lock.of([entry, again])))) == [entry, again]
