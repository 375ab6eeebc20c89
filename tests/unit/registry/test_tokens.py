import time

import pytest

from snakemake_apptainer_freshness.errors import Denied, Unauthorized
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry.containers_conf import Repository
from snakemake_apptainer_freshness.registry.network import TOKEN_HOSTS
from snakemake_apptainer_freshness.registry.tokens import Authorization, Authorizations, because
from snakemake_apptainer_freshness.registry.transport import HttpResponse
from snakemake_apptainer_freshness.registry.urls import Url, origin_of
from tests.support.attacks import MANIFESTS, honest
from tests.support.lab import PASSWORD, USER, manifest
from tests.support.replies import Reply

ORIGIN = origin_of("https", "registry.example")
PLACE = Repository(host="registry.example", repository="team/tool")
CHALLENGE = ('Bearer realm="https://registry.example/token"',)


class Answerer:
    """Answers each challenge with the next word, and counts."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    def answer(self, place, challenges, *, registry, answered_by):
        self.asked += 1
        return self.answers.pop(0)

    def hint(self, place):
        return f"log in at {place.host}"


def unauthorized(status=401):
    return HttpResponse(
        url=Url(origin=ORIGIN, target="/v2/"), status=status, headers={}, challenges=CHALLENGE, body=b""
    )


def paths(registry):
    return [request.path for request in registry.requests]


def test_nothing_is_said_to_a_registry_that_did_not_ask():
    answerer = Answerer()
    assert Authorizations(lambda: answerer).current(PLACE, ORIGIN) == ""
    assert answerer.asked == 0


def test_what_answered_a_challenge_is_said_again():
    answerer = Answerer(Authorization(value="Bearer one"))
    authorizations = Authorizations(lambda: answerer)
    assert authorizations.fresh(PLACE, ORIGIN, unauthorized(), stale="") == "Bearer one"
    assert authorizations.current(PLACE, ORIGIN) == "Bearer one"
    assert answerer.asked == 1


def test_a_token_that_another_thread_has_renewed_is_taken():
    answerer = Answerer(Authorization(value="Bearer one"), Authorization(value="Bearer two"))
    authorizations = Authorizations(lambda: answerer)
    authorizations.fresh(PLACE, ORIGIN, unauthorized(), stale="")
    assert authorizations.fresh(PLACE, ORIGIN, unauthorized(), stale="Bearer zero") == "Bearer one"
    assert authorizations.fresh(PLACE, ORIGIN, unauthorized(), stale="Bearer one") == "Bearer two"


def test_an_expired_token_is_not_said_any_more():
    answerer = Answerer(
        Authorization(value="Bearer old", expires=time.monotonic() - 1), Authorization(value="Bearer new")
    )
    authorizations = Authorizations(lambda: answerer)
    authorizations.fresh(PLACE, ORIGIN, unauthorized(), stale="")
    assert authorizations.current(PLACE, ORIGIN) == "Bearer new"


def test_a_registry_that_always_challenges_is_told_at_once_about_its_next_repository():
    answerer = Answerer(Authorization(value="Bearer one"), Authorization(value="Bearer two"))
    authorizations = Authorizations(lambda: answerer)
    authorizations.fresh(PLACE, ORIGIN, unauthorized(), stale="")
    other = Repository(host="registry.example", repository="team/other")
    assert authorizations.current(other, ORIGIN) == "Bearer two"


def test_a_registry_that_serves_some_to_everybody_is_asked_without_a_token_first():
    answerer = Answerer(Authorization(value="Bearer one"))
    authorizations = Authorizations(lambda: answerer)
    authorizations.served(ORIGIN)
    authorizations.fresh(PLACE, ORIGIN, unauthorized(), stale="")
    other = Repository(host="registry.example", repository="team/other")
    assert authorizations.current(other, ORIGIN) == ""


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (403, Denied)])
def test_a_refusal_says_which_login_was_refused(lab, status, kind):
    registry, reference = honest(lab, auth="basic", users={USER: PASSWORD})
    lab.log_in(registry.host)
    registry.answer(MANIFESTS, lambda request: Reply(status=status) if request.authorization else None)
    error = lab.ask(reference)
    assert isinstance(error, kind)
    assert "docker-config.json" in error.message
    assert PASSWORD not in f"{error.message} {error.hint}"


def test_a_refusal_without_a_login_says_how_to_log_in(lab):
    registry, reference = honest(lab, auth="basic", users={USER: PASSWORD})
    error = lab.ask(reference)
    assert isinstance(error, Unauthorized)
    assert error.hint.startswith(f"log in: apptainer registry login --username NAME docker://{registry.host}")


def test_one_token_is_fetched_for_many_tags_of_a_repository(lab):
    registry, reference = honest(lab, auth="token")
    registry.publish("team/tool", "2", manifest(2))
    answers = lab.ask_all(reference, reference.removesuffix("1") + "2")
    assert all(isinstance(answer, Entry) for answer in answers.values())
    assert paths(registry).count("/token") == 1


def test_a_token_service_that_redirects_gets_nothing_further(lab):
    registry, reference = honest(lab, auth="token")
    registry.answer("/token", Reply(status=307, headers=[("Location", "https://thief.example/token")]))
    assert "redirects, which is not followed" in lab.ask(reference).message


def test_a_token_service_that_is_out_of_order_is_told_by_its_status(lab):
    registry, reference = honest(lab, auth="token")
    registry.answer("/token", Reply(status=418))
    assert "answered with status 418" in lab.ask(reference).message


def test_a_login_goes_to_a_token_service_that_the_user_listed(lab):
    service = lab.registry("auth.example", auth="token", users={USER: PASSWORD})
    registry, reference = honest(lab, auth="token", users={USER: PASSWORD}, realm=service.url + "/token")
    lab.log_in(registry.host)
    lab.ask(reference)
    assert not lab.saw_secret(service)
    lab.environ[TOKEN_HOSTS] = " Auth.Example "
    lab.ask(reference)
    assert lab.saw_secret(service)


def test_an_authorization_does_not_show_its_value():
    assert "secret" not in repr(Authorization(value="Bearer secret"))


def test_a_reason_is_the_end_of_a_sentence():
    assert because("why") == " (why)"
    assert because("") == ""
