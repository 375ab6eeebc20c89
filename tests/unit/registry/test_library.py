"""``library://`` images."""

import json

import pytest

from snakemake_apptainer_freshness.errors import (
    DamagedAnswer,
    Denied,
    InvalidSettings,
    NotFound,
    Unauthorized,
    Unpullable,
)
from snakemake_apptainer_freshness.freshness import RemoteState
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.lockfile import Lock, dumps, loads, platform_texts
from snakemake_apptainer_freshness.registry import library
from tests.support.replies import Reply

ONE, TWO = f"{1:064x}", f"{2:064x}"


class Library:
    """A library with one image, whose tags and hashes are in `files`."""

    def __init__(self, simulator):
        self.simulator = simulator
        self.files = {"latest": ONE, f"sha256.{ONE}": ONE, f"sha256.{TWO}": TWO}
        simulator.answer("/v1/images/", self.answer)

    def answer(self, request):
        tag = request.path.rpartition(":")[2]
        if tag not in self.files:
            return Reply(status=404)
        return Reply(body=json.dumps({"data": {"hash": f"sha256.{self.files[tag]}"}}).encode())


@pytest.fixture
def served(lab):
    return Library(lab.registry("registry.example"))


@pytest.fixture
def reference(served):
    return f"library://{served.simulator.host}/team/collection/tool:latest"


def test_a_tag_is_pinned_to_the_hash_of_its_sif_file(lab, served, reference):
    entry = lab.ask(reference)
    assert entry.pinned.text == reference.replace(":latest", f":sha256.{ONE}")
    assert str(entry.digest) == f"sha256:{ONE}"
    assert platform_texts(entry.platforms) == {str(Platform.here()): f"sha256:{ONE}"}
    assert loads(dumps(Lock.of([entry]))) == Lock.of([entry])
    (request,) = served.simulator.requests
    assert request.path == "/v1/images/team/collection/tool:latest"
    assert request.query == f"arch={Platform.here().architecture}"


def test_an_answer_for_another_image_than_the_pin_is_refused(lab, served, reference):
    served.files[f"sha256.{ONE}"] = TWO
    answer = lab.ask(reference.replace(":latest", f":sha256.{ONE}"))
    assert isinstance(answer, DamagedAnswer)
    assert "another image" in answer.message


def test_a_check_tells_what_became_of_a_tag(lab, served, reference):
    entry = lab.ask(reference)
    assert lab.check(entry).state is RemoteState.CURRENT
    served.files["latest"] = TWO
    assert (lab.check(entry).state, str(lab.check(entry).digest)) == (RemoteState.MOVED, f"sha256:{TWO}")
    del served.files["latest"]
    assert lab.check(entry).state is RemoteState.UNTAGGED
    del served.files[f"sha256.{ONE}"]
    assert lab.check(entry).state is RemoteState.LOST


def test_a_check_of_a_hash_compares_it(lab, served, reference):
    entry = lab.ask(reference.replace(":latest", f":sha256.{ONE}"))
    assert lab.check(entry).state is RemoteState.CURRENT
    served.files[f"sha256.{ONE}"] = TWO
    assert lab.check(entry).state is RemoteState.LOST


@pytest.mark.parametrize(("status", "error"), [(404, NotFound), (401, Unauthorized), (403, Denied)])
def test_a_refusal_is_told_by_its_kind(lab, served, reference, status, error):
    served.simulator.answer("/v1/", Reply(status=status))
    assert isinstance(lab.ask(reference), error)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"data": {}}', b'{"data": {"hash": 5}}', b'{"data": {"hash": "sha256.x"}}']
)
def test_an_answer_that_is_not_understood_is_damaged(body):
    with pytest.raises((DamagedAnswer, Unpullable)):
        library.read_hash(body)


def test_an_older_kind_of_hash_is_unpullable():
    with pytest.raises(Unpullable):
        library.read_hash(b'{"data": {"hash": "sif.5f1a"}}')


def remotes(lab, text):
    path = lab.home / ".apptainer/remote.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_without_a_library_the_error_says_how_to_add_one(lab):
    answer = lab.ask("library://team/collection/tool")
    assert isinstance(answer, InvalidSettings)
    assert "apptainer remote add" in answer.hint


def test_the_library_of_the_environment_is_used(lab, served):
    lab.environ["APPTAINER_LIBRARY"] = served.simulator.url
    assert str(lab.ask("library://team/collection/tool:latest").digest) == f"sha256:{ONE}"


def test_the_library_of_the_active_remote_is_used_with_its_token(lab, served):
    host = served.simulator.host
    served.simulator.answer(
        "/assets/config/", Reply(body=json.dumps({"libraryAPI": {"uri": served.simulator.url}}).encode())
    )
    remotes(lab, f"Active: ours\nRemotes:\n  ours:\n    URI: {host}\n    Token: sesame\n")
    assert str(lab.ask("library://team/collection/tool:latest").digest) == f"sha256:{ONE}"
    assert served.simulator.asked("/v1/")[0].authorization == "Bearer sesame"


def test_a_remote_without_a_library_is_named(lab, served):
    served.simulator.answer("/assets/config/", Reply(body=b'{"keystoreAPI": {"uri": "x"}}'))
    remotes(lab, f"Active: ours\nRemotes:\n  ours:\n    URI: {served.simulator.host}\n")
    answer = lab.ask("library://team/collection/tool")
    assert isinstance(answer, InvalidSettings)
    assert served.simulator.host in answer.message


def test_the_system_s_exclusive_remote_wins(lab, tmp_path):
    system = tmp_path / "system.yaml"
    system.write_text("Active: a\nRemotes:\n  a:\n    URI: system.test\n    Exclusive: true\n", encoding="utf-8")
    remotes(lab, "Active: b\nRemotes:\n  b:\n    URI: user.test\n")
    assert library.active_remote(lab.environ, [system])["URI"] == "system.test"
    assert library.active_remote(lab.environ, [])["URI"] == "user.test"


@pytest.mark.parametrize("text", ["- a", "a: [", "Active: 5", "Remotes: x", ""])
def test_an_odd_remote_configuration_is_no_library_or_a_clear_error(lab, text):
    remotes(lab, text)
    assert isinstance(lab.ask("library://team/collection/tool"), InvalidSettings)
