"""Which platforms there are images for is asked for once, hashed, and never taken from a lock."""

from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.actions.offered import offered
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.store import descriptions
from tests.support.images import multi_arch, tiny_image
from tests.support.pins import lock_entry
from tests.support.proofs import Served

QUAY = "docker://quay.io/team/tool:1.0"
HERE = Platform.here()
SINGLE = tiny_image("one")
INDEX = multi_arch(SINGLE, "s390x", attested=True)


def texts(found):
    return {text: set(map(str, platforms)) for text, platforms in found.items()}


def no_registry():
    pytest.fail("a registry was asked")


@pytest.mark.parametrize(
    ("content", "platforms"),
    [
        (INDEX, {str(HERE), "linux/s390x"}),
        (SINGLE, {str(HERE)}),
        (replace(SINGLE, architecture="arm", variant="v7"), {"linux/arm/v7"}),
    ],
    ids=["index", "single", "variant"],
)
def test_an_index_or_the_configuration_of_a_single_image_says_it(content, platforms):
    forged = lock_entry(QUAY, content.digest, {"linux/riscv64": content.digest})
    assert texts(offered([forged], lambda: Served(content=content))) == {QUAY: platforms}
    assert texts(offered([forged], no_registry)) == {QUAY: platforms}


def test_what_was_not_hashed_and_may_not_be_asked_for_is_not_known():
    assert offered([lock_entry(QUAY, INDEX.digest, {"linux/s390x": INDEX.digest})], None) == {}


def test_what_is_served_under_the_digest_and_is_something_else_says_nothing():
    liar = Served(content=INDEX, lies={INDEX.digest: multi_arch(SINGLE, "riscv64").manifest})
    assert offered([lock_entry(QUAY, INDEX.digest)], lambda: liar) == {}
    assert descriptions.platforms_of(lock_entry(QUAY, INDEX.digest).digest) is None


def test_a_registry_that_has_it_no_more_says_nothing():
    assert offered([lock_entry(QUAY)], lambda: Served(content=INDEX)) == {}


def test_a_digest_that_two_references_name_is_asked_for_once():
    served = Served(content=INDEX)
    entries = [lock_entry(text, INDEX.digest) for text in (QUAY, "docker://quay.io/team/tool:2.0")]
    assert len(offered(entries, lambda: served)) == 2
    assert served.asked == [INDEX.digest]
