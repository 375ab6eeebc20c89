"""A pin is what one image file has to be."""

import pytest

from snakemake_apptainer_freshness.errors import NotLocked
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin, pins_of
from snakemake_apptainer_freshness.settings import PinKind
from tests.support.pins import DIGEST, MANIFEST, OTHER, lock_entry

REFERENCE = "docker://quay.io/team/tool:1.0"
ARM = Platform.parse("linux/arm64")
HERE = str(Platform.here())


def test_a_pin_of_an_index_names_the_index_and_this_platforms_manifest():
    pin = Pin.of(lock_entry(REFERENCE, platforms={HERE: MANIFEST}))
    assert pin.url == f"docker://quay.io/team/tool@{DIGEST}"
    assert (pin.digest, pin.manifest, pin.content) == (DIGEST, MANIFEST, None)
    assert pin.names(DIGEST)
    assert pin.names(MANIFEST)
    assert not pin.names(OTHER)


def test_a_pin_of_a_platform_names_its_manifest():
    pin = Pin.of(lock_entry(REFERENCE, platforms={HERE: MANIFEST}), kind=PinKind.PLATFORM)
    assert pin.url == f"docker://quay.io/team/tool@{MANIFEST}"
    assert pin.digest == MANIFEST


def test_a_platform_that_the_lock_does_not_have_cannot_be_pinned_to():
    with pytest.raises(NotLocked):
        Pin.of(
            lock_entry(REFERENCE, platforms={"linux/arm64": MANIFEST}),
            platform=Platform.parse("linux/s390x"),
            kind=PinKind.PLATFORM,
        )


def test_a_pin_for_another_machine_has_that_ones_manifest():
    entry = lock_entry(REFERENCE, platforms={"linux/arm64": OTHER, "linux/amd64": MANIFEST})
    assert Pin.of(entry, platform=ARM).manifest == OTHER


def test_an_entry_may_be_held_to_its_index_and_to_its_manifest():
    urls = [pin.url for pin in pins_of(lock_entry(REFERENCE, platforms={HERE: MANIFEST}))]
    assert urls == [f"docker://quay.io/team/tool@{DIGEST}", f"docker://quay.io/team/tool@{MANIFEST}"]
    assert len(pins_of(lock_entry(REFERENCE))) == 1


def test_where_no_more_is_known_a_pin_is_held_to_its_digest():
    reference = parse(f"docker://quay.io/team/tool@{DIGEST}")
    pin = Pin.held_to(pinned=reference, reference=parse(REFERENCE), digest=OTHER)
    assert (pin.digest, pin.manifest, pin.content) == (DIGEST, None, None)
