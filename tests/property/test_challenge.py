"""Challenges, realms and token answers: any text in, a value or our own error out, and never a login to a stranger."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.errors import DamagedAnswer, FreshnessError, PolicyRefused
from snakemake_apptainer_freshness.registry import challenge, urls
from snakemake_apptainer_freshness.registry.addresses import Zone
from snakemake_apptainer_freshness.registry.challenge import Basic, FetchToken, Login
from snakemake_apptainer_freshness.registry.urls import Origin

LOGIN = Login(username="alice", password="secret")
HEADER = st.text(st.characters(max_codepoint=255), max_size=200) | st.from_regex(
    r'(?:(?:Bearer|Basic|Digest) (?:(?:realm|service|scope|error)="[^"]{0,40}",? ?){0,4})+', fullmatch=True
)
HOST = st.sampled_from(
    ["registry.example", "a.registry.example", "registry.example.evil", "auth.docker.io", "gitlab.example", "10.0.0.1"]
)
ORIGIN = st.builds(Origin, scheme=st.sampled_from(["https", "http"]), host=HOST, port=st.sampled_from([80, 443, 5000]))
ZONE = st.sampled_from([Zone.PRIVATE, Zone.PUBLIC]) | st.none()


@given(st.lists(HEADER, max_size=3))
@example(['Bearer realm="' + "\\" * 5000])
@example(["Bearer " + "a=b," * 2000])
@example(["," * 8000])
@example(["Basic " * 1300])
def test_any_header_is_challenges_or_a_damaged_answer(headers):
    try:
        found = challenge.parse(headers)
    except DamagedAnswer:
        return
    assert all(one.scheme == one.scheme.lower() and one.scheme for one in found)


@given(st.text(max_size=300) | st.from_regex(r"https?://[a-z0-9.@:\[\]\\-]{1,40}(?:/[!-~]{0,20})?", fullmatch=True))
def test_any_url_is_its_own_normal_form_or_refused(text):
    try:
        url = urls.parse(text)
    except PolicyRefused:
        return
    assert urls.parse(str(url)) == url
    assert not set("@\\ \n\r\t") & set(url.origin.host)


@given(st.text(max_size=300))
def test_any_location_stays_or_is_absolute_or_refused(location):
    base = urls.parse("https://registry.example/v2/x")
    try:
        url = urls.join(base, location)
    except PolicyRefused:
        return
    assert url.origin == base.origin or "//" in location


@given(ORIGIN, ORIGIN, ORIGIN, ZONE, ZONE, st.sampled_from([frozenset(), frozenset({"gitlab.example"})]))
def test_a_login_goes_to_the_registry_s_own_or_to_nobody(registry, answered_by, realm, here, there, listed):  # noqa: PLR0917  Hypothesis fills them in
    challenges = challenge.parse([f'Bearer realm="{realm}/token",service="s"'])
    try:
        decision = challenge.decide(
            challenges,
            registry=registry,
            answered_by=answered_by,
            repository="team/tool",
            login=LOGIN,
            registry_zone=here,
            realm_zone=there,
            token_hosts=listed,
        )
    except FreshnessError:
        return
    assert isinstance(decision, FetchToken)
    assert answered_by == registry
    assert realm.scheme == "https" or registry.scheme == "http"
    assert (here, there) != (Zone.PUBLIC, Zone.PRIVATE)
    if decision.login is not None:
        own = realm.host == registry.host
        both_private = here is Zone.PRIVATE and there is Zone.PRIVATE and decision.zones == {Zone.PRIVATE}
        assert own or realm.host in listed or both_private or registry.host.endswith(".docker.io")


@given(st.lists(HEADER, max_size=2), ORIGIN, ZONE, ZONE)
def test_any_challenge_is_decided_or_refused(headers, registry, here, there):
    try:
        decision = challenge.decide(
            challenge.parse(headers),
            registry=registry,
            answered_by=registry,
            repository="team/tool",
            login=LOGIN,
            registry_zone=here,
            realm_zone=there,
        )
    except FreshnessError:
        return
    assert isinstance(decision, Basic | FetchToken)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.binary(max_size=300)
    | st.fixed_dictionaries({}, optional={"token": JSON, "expires_in": JSON}).map(json.dumps).map(str.encode)
)
@example(b"[" * 60_000)
@example(b'{"token": "x", "expires_in": ' + b"9" * 5000 + b"}")
@example(b'{"token": "x", "expires_in": 1e999}')
def test_any_token_answer_is_a_token_or_damaged(body):
    try:
        token, lifetime = challenge.read_token(body)
    except DamagedAnswer:
        return
    assert token.isascii()
    assert not set(token) & set(" \r\n\t\x00")
    assert 0 < lifetime <= challenge.MAX_EXPIRY
