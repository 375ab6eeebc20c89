import json

import pytest

from snakemake_apptainer_freshness.errors import DamagedAnswer, NotFound, PolicyRefused
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry.client import verified
from snakemake_apptainer_freshness.registry.containers_conf import Repository
from tests.support.attacks import MANIFESTS, honest
from tests.support.lab import manifest
from tests.support.replies import Reply

PLACE = Repository(host="registry.example", repository="team/tool")


def to(location):
    return Reply(status=307, headers=[("Location", location)])


def test_bytes_are_named_by_what_they_hash_to():
    body = b"some manifest"
    assert verified(PLACE, None, body) == Digest.of(body)
    assert verified(PLACE, Digest.of(body, "sha512"), body) == Digest.of(body, "sha512")


def test_bytes_that_hash_to_something_else_are_no_answer():
    with pytest.raises(DamagedAnswer, match="serves other bytes"):
        verified(PLACE, Digest.of(b"what was asked for"), b"what came")


def test_a_tag_that_is_not_there_is_answered_with_those_like_it(lab):
    registry, reference = honest(lab)
    registry.publish("team/tool", "1.10.2", manifest(1))
    error = lab.ask(reference.removesuffix(":1") + ":1.10.3")
    assert isinstance(error, NotFound)
    assert "no tag of this name" in error.message
    assert error.hint == "tags like it: 1.10.2"


def test_a_hint_repeats_no_tag_that_is_none(lab):
    registry, reference = honest(lab)
    registry.answer("/v2/team/tool/tags/list", Reply(body=json.dumps({"tags": ["1.1\x1b[2J", 7, "1.0"]}).encode()))
    error = lab.ask(reference.removesuffix(":1") + ":1.1")
    assert error.hint == "tags like it: 1.0"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tags": null}', b"[" * 5000])
def test_a_damaged_page_of_tags_costs_the_hint_and_no_more(lab, body):
    registry, reference = honest(lab)
    registry.answer("/v2/team/tool/tags/list", Reply(body=body))
    error = lab.ask(reference.removesuffix(":1") + ":2")
    assert isinstance(error, NotFound)
    assert error.hint == "check the spelling, or whether it was deleted"


def test_a_repository_that_is_not_there_is_told_as_such(lab):
    registry, _ = honest(lab)
    registry.answer("/v2/no/such/tags/list", Reply(status=404))
    assert "no repository of this name" in lab.ask(f"docker://{registry.host}/no/such:1").message


def test_the_code_of_the_error_saves_the_question_for_tags(lab):
    registry, reference = honest(lab)
    body = json.dumps({"errors": [{"code": "NAME_UNKNOWN"}]}).encode()
    registry.answer(MANIFESTS, Reply(status=404, body=body))
    assert "no repository of this name" in lab.ask(reference).message
    assert len(registry.requests) == 1


def test_a_status_that_means_nothing_is_told_by_its_number(lab):
    registry, reference = honest(lab)
    registry.answer(MANIFESTS, Reply(status=418))
    assert "answered with status 418" in lab.ask(reference).message


def test_a_redirect_on_the_same_host_is_followed_a_few_times(lab):
    registry, reference = honest(lab)
    registry.answer(MANIFESTS, to("/v2/team/tool/manifests/1"), times=2)
    assert isinstance(lab.ask(reference), Entry)
    registry.answer(MANIFESTS, to("/v2/team/tool/manifests/1"))
    assert isinstance(lab.ask(reference), PolicyRefused)


def test_a_redirect_out_of_encryption_is_refused(lab):
    registry, reference = honest(lab)
    registry.answer(MANIFESTS, to("http://service.example/manifest"))
    assert "which is not encrypted" in lab.ask(reference).message


def test_an_answer_that_is_no_redirect_without_a_place_to_go(lab):
    registry, reference = honest(lab)
    registry.answer(MANIFESTS, Reply(status=307))
    assert isinstance(lab.ask(reference), DamagedAnswer)
