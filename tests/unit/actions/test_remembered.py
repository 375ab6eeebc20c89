"""Whether tags moved is asked once for many runs in a short time."""

import pytest

from snakemake_apptainer_freshness.actions.remembered import RememberedAnswers
from snakemake_apptainer_freshness.errors import NotFound
from snakemake_apptainer_freshness.freshness import RemoteState
from snakemake_apptainer_freshness.image.reference import parse
from tests.support.pins import DIGEST, OTHER, lock_entry, remote_fact

A, B = lock_entry("docker://quay.io/team/a:1"), lock_entry("docker://quay.io/team/b:1")
PAGE = lock_entry("https://example.org/tool.sif")


class Registries:
    """Registries that say one thing of everything, and remember what they were asked."""

    warnings = ("told",)

    def __init__(self, state=RemoteState.CURRENT, digest=DIGEST):
        self.answer = remote_fact(state, digest)
        self.asked = []

    def check(self, entries):
        for entry in entries:
            self.asked.append(entry.reference.text)
            yield entry, self.answer

    def resolve(self, references):
        for reference in references:
            self.asked.append(reference.text)
            yield reference, lock_entry(reference) if "gone" not in reference.text else NotFound("gone")


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("APPTAINER_CONFIGDIR", "SINGULARITY_CONFIGDIR", "APPTAINER_AUTH_FILE", "SINGULARITY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)


def check(registries, *entries, **options):
    found = RememberedAnswers(registries, **{"every": 300.0, **options}).check(entries)
    return {entry.reference.text: fact for entry, fact in found}


def test_the_second_run_asks_nobody_and_knows_when_it_was_asked():
    registries = Registries()
    first = check(registries, A, B)
    second = check(registries, A, B)
    assert len(registries.asked) == 2
    assert [fact.asked_at for fact in first.values()] == ["", ""]
    assert all(fact.asked_at for fact in second.values())
    assert [fact.state for fact in second.values()] == ["current", "current"]


def test_only_what_is_not_remembered_is_asked_for():
    registries = Registries()
    check(registries, A)
    assert set(check(registries, A, B)) == {A.reference.text, B.reference.text}
    assert registries.asked == [A.reference.text, B.reference.text]


def test_with_no_time_given_every_run_asks():
    registries = Registries()
    check(registries, A)
    check(registries, A, every=0.0)
    assert len(registries.asked) == 2


def test_a_dry_run_uses_what_is_remembered_and_writes_nothing(state_home):
    registries = Registries()
    check(registries, A, remembers=False)
    check(registries, A, remembers=False)
    assert len(registries.asked) == 2
    assert list(state_home.rglob("*.json")) == []
    check(registries, A)
    check(registries, A, remembers=False)
    assert len(registries.asked) == 3


def test_what_a_run_resolved_need_not_be_asked_for_by_the_next(tmp_path):
    registries = Registries()
    resolver = RememberedAnswers(registries, every=300.0)
    answers = dict(resolver.resolve([A.reference, parse("docker://quay.io/team/gone:1")]))
    assert isinstance(answers[parse("docker://quay.io/team/gone:1")], NotFound)
    check(registries, A)
    assert len(registries.asked) == 2
    assert len(list(resolver.resolve([A.reference]))) == 1  # what is resolved is asked for anew
    assert len(registries.asked) == 3


def test_an_update_elsewhere_makes_the_old_answer_unknown():
    registries = Registries()
    check(registries, A)
    list(RememberedAnswers(Registries(), every=300.0).resolve([A.reference]))
    assert check(registries, lock_entry(A.reference, OTHER))[A.reference.text].asked_at == ""
    assert len(registries.asked) == 2


def test_other_sources_are_always_asked():
    registries = Registries()
    check(registries, PAGE)
    check(registries, PAGE)
    assert len(registries.asked) == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".docker/config.json", '{"auths": {"quay.io": {"auth": "YTpi"}}}'),
        (".config/containers/registries.conf", '[[registry]]\nlocation = "quay.io"\ninsecure = true\n'),
        (".config/containers/registries.conf", "not [ toml"),
    ],
)
def test_another_login_or_mirror_is_asked_for_itself(tmp_path, name, content):
    registries = Registries()
    check(registries, A)
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(content)
    check(registries, A)
    assert len(registries.asked) == 2


@pytest.mark.parametrize("name", ["APPTAINER_DOCKER_PASSWORD", "HTTPS_PROXY", "https_proxy", "APPTAINER_NOHTTPS"])
def test_another_environment_is_asked_for_itself(monkeypatch, name):
    monkeypatch.delenv(name, raising=False)
    registries = Registries()
    check(registries, A)
    monkeypatch.setenv(name, "1")
    check(registries, A)
    assert len(registries.asked) == 2


def test_warnings_are_those_of_who_is_asked():
    assert RememberedAnswers(Registries(), every=300.0).warnings == ("told",)
