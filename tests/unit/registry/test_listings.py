"""The tags of a repository: page after page, so many as the limits allow, from this registry alone."""

import json

import pytest

from snakemake_apptainer_freshness.errors import DamagedAnswer, NotFound, Unauthorized
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.registry.resolver import Resolver
from snakemake_apptainer_freshness.settings import LIMITS
from tests.support.attacks import REPOSITORY, honest
from tests.support.lab import manifest
from tests.support.replies import Reply

LIST = f"/v2/{REPOSITORY}/tags/list"


def listed(lab, reference):
    with Resolver(environ=lab.environ, limits=lab.limits) as resolver:
        [(_, answer)] = resolver.tags([parse(reference)])
    return answer


def page(*tags, link=""):
    headers = (("Link", link),) if link else ()
    return Reply(headers=headers, body=json.dumps({"name": REPOSITORY, "tags": list(tags)}).encode())


def test_all_tags_of_a_small_repository_come_on_one_page(lab):
    registry, reference = honest(lab)
    registry.publish(REPOSITORY, "2", manifest(2))
    found = listed(lab, reference)

    assert (found.tags, found.is_whole) == (("1", "2"), True)
    assert registry.asked(LIST)[-1].query == "n=1000"


@pytest.mark.parametrize("address", [f"{LIST}?last=b&n=1000", f"https://registry.example{LIST}?last=b&n=1000"])
def test_further_pages_are_asked_for_where_the_registry_says(lab, address):
    registry, reference = honest(lab)
    registry.answer(LIST, page("b", "c"))
    registry.answer(LIST, page("a", "b", link=f'<{address}>; rel="next"'), times=1)
    found = listed(lab, reference)

    assert (found.tags, found.is_whole) == (("a", "b", "c"), True)
    assert [one.query for one in registry.asked(LIST)] == ["n=1000", "last=b&n=1000"]


def test_a_list_without_an_end_is_given_up_and_says_so(lab):
    registry, reference = honest(lab)
    registry.answer(LIST, page("a", link=f'<{LIST}?last=a>; rel="next"'))
    found = listed(lab, reference)

    assert (found.tags, found.is_whole) == (("a",), False)
    assert len(registry.asked(LIST)) == LIMITS.tag_pages


@pytest.mark.parametrize("target", ["/v2/other/repository/tags/list?n=1", "/token?service=x", "/v2/../admin?x"])
def test_a_next_page_that_is_no_page_of_this_list_is_not_asked_for(lab, target):
    registry, reference = honest(lab)
    registry.answer(LIST, page("a", link=f'<{target}>; rel="next"'))
    listed(lab, reference)

    assert {one.path for one in registry.requests} == {LIST}


def test_a_next_page_on_another_host_is_asked_for_on_this_one(lab):
    registry, reference = honest(lab)
    other = lab.registry("other.example")
    registry.answer(LIST, page("b"))
    registry.answer(LIST, page("a", link=f'<https://other.example{LIST}?last=a>; rel="next"'), times=1)

    assert listed(lab, reference).tags == ("a", "b")
    assert other.requests == []


def test_what_has_not_the_form_of_a_tag_is_left_out(lab):
    registry, reference = honest(lab)
    registry.answer(LIST, page("1", "-x", "a b", "sha256:" + "a" * 64, 7, "\x1b[31m", None))

    assert listed(lab, reference).tags == ("1",)


def test_no_tags_at_all_are_a_list(lab):
    registry, reference = honest(lab)
    registry.answer(LIST, Reply(body=b'{"name": "x", "tags": null}'))

    assert listed(lab, reference).tags == ()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(status=404), NotFound),
        (Reply(status=403), Unauthorized),
        (Reply(status=418), DamagedAnswer),
        (Reply(body=b"[]"), DamagedAnswer),
        (Reply(body=b"{}"), DamagedAnswer),
        (Reply(body=b"[" * 100_000), DamagedAnswer),
    ],
)
def test_what_is_no_list_is_an_error(lab, reply, error):
    registry, reference = honest(lab)
    registry.answer(LIST, reply)

    assert isinstance(listed(lab, reference), error)
