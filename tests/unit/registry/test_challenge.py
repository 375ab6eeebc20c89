import pytest

from snakemake_apptainer_freshness.errors import DamagedAnswer, PolicyRefused, Unauthorized
from snakemake_apptainer_freshness.registry import challenge
from snakemake_apptainer_freshness.registry.addresses import Zone
from snakemake_apptainer_freshness.registry.challenge import Basic, Bearer, Challenge, FetchToken, Login
from snakemake_apptainer_freshness.registry.urls import Origin

REGISTRY = Origin(scheme="https", host="registry.example", port=443)
LOGIN = Login(username="alice", password="secret", source="a file")


def bearer(realm, **parameters):
    return (Challenge(scheme="bearer", parameters={"realm": realm, **parameters}),)


def decide(challenges, registry=REGISTRY, login=LOGIN, zones=(Zone.PUBLIC, Zone.PUBLIC), **options):
    values = {"answered_by": registry, "repository": "team/tool", **options}
    return challenge.decide(
        challenges, registry=registry, login=login, registry_zone=zones[0], realm_zone=zones[1], **values
    )


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Bearer realm="https://a/",service="s"', [("bearer", {"realm": "https://a/", "service": "s"})]),
        ("Basic realm=tests", [("basic", {"realm": "tests"})]),
        ('Basic realm="a, b", Bearer realm="c"', [("basic", {"realm": "a, b"}), ("bearer", {"realm": "c"})]),
        (r'Basic realm="a\"b\\"', [("basic", {"realm": 'a"b\\'})]),
        ("Negotiate", [("negotiate", {})]),
        ("Negotiate abc==, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('BEARER REALM="x"', [("bearer", {"realm": "x"})]),
        ("", []),
    ],
)
def test_challenges_are_parsed(header, expected):
    assert [(one.scheme, one.parameters) for one in challenge.parse([header])] == expected


@pytest.mark.parametrize("header", ['Bearer realm="open', "Bearer =x", '"', "Bearer a=1,a=2", "Bearer (x)", "x" * 9000])
def test_malformed_challenges_are_damaged_answers(header):
    with pytest.raises(DamagedAnswer):
        challenge.parse([header])


def test_the_registry_s_own_host_gets_the_login():
    decision = decide(bearer("https://registry.example/token", service="s"))
    assert isinstance(decision, FetchToken)
    assert decision.login is LOGIN
    assert decision.url.target == "/token?service=s&scope=repository%3Ateam%2Ftool%3Apull"


def test_another_port_of_the_registry_s_host_gets_the_login():
    assert decide(bearer("https://registry.example:5001/token")).login is LOGIN


def test_a_foreign_realm_gets_an_anonymous_request_and_the_decision_says_why():
    decision = decide(bearer("https://elsewhere.example/token"))
    assert decision.login is None
    assert "elsewhere.example" in decision.withheld


def test_docker_hub_s_token_service_gets_docker_hub_s_login():
    hub = Origin(scheme="https", host="registry-1.docker.io", port=443)
    assert decide(bearer("https://auth.docker.io/token"), registry=hub).login is LOGIN


def test_a_host_that_the_user_listed_gets_the_login():
    decision = decide(bearer("https://gitlab.example/jwt"), token_hosts=frozenset({"gitlab.example"}))
    assert decision.login is LOGIN


@pytest.mark.parametrize("host", ["sub.gitlab.example", "gitlab.example.evil.example", "xgitlab.example"])
def test_a_listed_host_stands_for_itself_alone(host):
    decision = decide(bearer(f"https://{host}/jwt"), token_hosts=frozenset({"gitlab.example"}))
    assert decision.login is None


def test_a_private_realm_of_a_private_registry_gets_the_login_at_a_private_address_only():
    decision = decide(bearer("https://auth.inside/token"), zones=(Zone.PRIVATE, Zone.PRIVATE))
    assert decision.login is LOGIN
    assert decision.zones == {Zone.PRIVATE}


def test_a_public_realm_of_a_private_registry_is_asked_anonymously():
    assert decide(bearer("https://auth.example/token"), zones=(Zone.PRIVATE, Zone.PUBLIC)).login is None


def test_a_private_realm_of_a_public_registry_is_refused():
    with pytest.raises(PolicyRefused, match="private address"):
        decide(bearer("https://auth.inside/token"), zones=(Zone.PUBLIC, Zone.PRIVATE))


def test_the_token_of_a_public_registry_is_asked_for_at_public_addresses_only():
    assert decide(bearer("https://auth.example/token")).zones == {Zone.PUBLIC}


def test_a_plain_realm_of_an_https_registry_is_refused():
    with pytest.raises(PolicyRefused, match="not encrypted"):
        decide(bearer("http://registry.example/token"))


def test_a_plain_realm_of_a_plain_registry_is_followed():
    plain = Origin(scheme="http", host="localhost", port=5000)
    decision = decide(bearer("http://localhost:5001/token"), registry=plain, zones=(Zone.PRIVATE, Zone.PRIVATE))
    assert decision.login is LOGIN


def test_whoever_is_not_the_registry_gets_no_answer():
    thief = Origin(scheme="https", host="thief.example", port=443)
    with pytest.raises(PolicyRefused, match="redirected"):
        decide(bearer("https://registry.example/token"), answered_by=thief)


def test_the_scope_is_ours():
    decision = decide(bearer("https://registry.example/token", scope="repository:other:push,pull"))
    assert "other" not in decision.url.target


def test_a_realm_with_a_query_keeps_it():
    assert decide(bearer("https://registry.example/token?a=b")).url.target.startswith("/token?a=b&scope=")


def test_an_identity_token_is_exchanged_by_post():
    decision = decide(bearer("https://registry.example/token", service="s"), login=Login(identity_token="t"))
    assert decision.form["grant_type"] == "refresh_token"
    assert decision.form["refresh_token"] == "t"
    assert decision.url.target == "/token"


def test_a_token_that_the_user_brought_is_sent_as_it_is():
    assert isinstance(decide(bearer("https://registry.example/token"), login=Login(registry_token="t")), Bearer)


def test_basic_is_answered_with_user_name_and_password():
    assert decide((Challenge(scheme="basic"),)) == Basic(login=LOGIN)


def test_bearer_is_preferred_to_basic():
    both = (Challenge(scheme="basic"), *bearer("https://registry.example/token"))
    assert isinstance(decide(both), FetchToken)


def test_basic_without_a_login_is_unauthorized():
    with pytest.raises(Unauthorized, match="no login"):
        decide((Challenge(scheme="basic"),), login=None)


@pytest.mark.parametrize("challenges", [(), (Challenge(scheme="negotiate"),)])
def test_a_kind_of_login_that_is_not_understood_is_unauthorized(challenges):
    with pytest.raises(Unauthorized, match="not supported"):
        decide(challenges)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"token": "abc", "expires_in": 300}', ("abc", 300)),
        (b'{"access_token": "abc"}', ("abc", 60)),
        (b'{"token": "abc", "expires_in": 1e9}', ("abc", 3600)),
        (b'{"token": "abc", "expires_in": -1}', ("abc", 60)),
        (b'{"token": "abc", "expires_in": "300"}', ("abc", 60)),
        (b'{"token": "abc", "expires_in": NaN}', ("abc", 60)),
        (b'{"token": "abc", "expires_in": Infinity}', ("abc", 60)),
    ],
)
def test_tokens_are_read(body, expected):
    assert challenge.read_token(body) == expected


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"token": ""}', b'{"token": 1}', b'{"token": "a b"}', b'{"token": "a\\n"}']
)
def test_what_is_no_token_is_a_damaged_answer(body):
    with pytest.raises(DamagedAnswer):
        challenge.read_token(body)
