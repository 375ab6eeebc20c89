"""Each verification is what stops its attack: with the verification taken away, the attack succeeds.

A test that has never failed proves nothing; here each one does. A mutation says which attack it lets through, and what
is replaced by what. The last test keeps the table complete.
"""

import json
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from snakemake_apptainer_freshness.image import manifest
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.registry import challenge, connections, transport, urls
from tests.support.attacks import addresses, attacks_of, beliefs, costs, logins
from tests.support.lab import QUICK, Lab
from tests.support.mutations import LabMutation, anything, yes

ATTACKS = attacks_of(logins, addresses, beliefs, costs)
NOTHING_TO_DISABLE = {
    "endless_pagination": "no code follows pages",
}


UNHURRIED = {"connect_timeout": 5, "read_timeout": 5, "answer_timeout": 9}
"""An attack that should succeed must not fail because this machine is busy."""
DRIPPING = {"answer_timeout": QUICK.answer_timeout}
"""What stops this attack is this limit; so it has to stay."""


def trusts_a_prefix(realm, *, registry, token_hosts):
    return any(realm.host.startswith(host) for host in challenge.TOKEN_SERVICES.get(registry.host, ()))


def hosts_by_prefix(key, host):
    return host.startswith(key.removeprefix("https://").partition("/")[0])


def keeps_everything(_self, ask, target, _origin):
    return replace(ask, url=target)


_decide = challenge.decide


def whoever_answers_is_the_registry(challenges, **values):
    return _decide(challenges, **{**values, "registry": values["answered_by"]})


_send = transport.Transport.send


def follows_redirects(self, ask):
    answer = _send(self, ask)
    if location := answer.headers.get("location"):
        return _send(self, replace(ask, url=urls.join(ask.url, location)))
    return answer


def reads_urls_as_others_do(text):
    parts = urlsplit(text.replace("\\", "/"))
    port = parts.port or urls.DEFAULT_PORTS[parts.scheme]
    origin = urls.Origin(scheme=parts.scheme, host=parts.hostname, port=port)
    return urls.Url(origin=origin, target=parts.path or "/")


def checks_and_looks_up_again(self, host, zones):
    connections.vet(host, connections.look_up(host, 1), zones)
    return connections.look_up(host, 1)


def believes_the_header(_place, wanted, body):
    return wanted or Digest.of(body)


class AnyText:
    algorithm = "sha256"

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text


def takes_any_digest(text):
    return AnyText(text) if text else None


def takes_it_for_a_manifest(_document):
    return manifest._MANIFESTS


def asks_nobody_for_the_type(*_):
    return manifest.OCI_MANIFEST


def reads_to_the_end(response, _headers, _ask):
    return b"".join(response.stream)


def never_ends(_self, timeout):
    return timeout


def takes_any_token(body):
    return json.loads(body)["token"], 60.0


NO_CHECK_OF_ADDRESSES = {"registry.transport.vet": anything}
ANY_REDIRECT = {"registry.client.Client._redirected": keeps_everything}
ODD_URLS = {"registry.urls.parse": reads_urls_as_others_do}
HEADERS_BELIEVED = {"registry.client.verified": believes_the_header}

MUTATIONS = [
    LabMutation(attack="credentials_to_a_foreign_realm", replaced={"registry.challenge.may_see_logins": yes}),
    LabMutation(
        attack="docker_hubs_token_service_by_prefix",
        replaced={"registry.challenge.may_see_logins": trusts_a_prefix},
    ),
    LabMutation(
        attack="docker_io_evil_example_looked_up_by_prefix",
        replaced={"registry.credentials.is_key_of": hosts_by_prefix},
    ),
    LabMutation(attack="credentials_through_a_redirect_to_another_host", replaced=ANY_REDIRECT),
    LabMutation(attack="credentials_through_a_redirect_to_another_port", replaced=ANY_REDIRECT),
    LabMutation(attack="credentials_through_a_redirect_to_another_scheme", replaced=ANY_REDIRECT),
    LabMutation(attack="redirect_downgraded_to_http", replaced=ANY_REDIRECT),
    LabMutation(
        attack="challenge_answered_after_a_redirect",
        replaced={"registry.challenge.decide": whoever_answers_is_the_registry},
    ),
    LabMutation(attack="realm_downgraded_to_http", replaced={"registry.challenge.refuse_realm": anything}),
    LabMutation(
        attack="redirect_of_a_token_request", replaced={"registry.transport.Transport.send": follows_redirects}
    ),
    LabMutation(attack="user_information_in_a_location", replaced=ODD_URLS),
    LabMutation(attack="user_information_in_a_realm", replaced=ODD_URLS),
    LabMutation(attack="backslash_in_a_realm", replaced=ODD_URLS),
    LabMutation(attack="backslash_in_a_location", replaced=ODD_URLS),
    LabMutation(attack="metadata_address_as_literal", replaced=NO_CHECK_OF_ADDRESSES),
    LabMutation(attack="metadata_address_mapped", replaced=NO_CHECK_OF_ADDRESSES),
    LabMutation(attack="metadata_address_by_dns_name", replaced=NO_CHECK_OF_ADDRESSES),
    LabMutation(attack="metadata_address_mapped_by_dns_name", replaced=NO_CHECK_OF_ADDRESSES),
    LabMutation(attack="metadata_address_as_realm", replaced=NO_CHECK_OF_ADDRESSES),
    LabMutation(attack="metadata_address_as_redirect", replaced=NO_CHECK_OF_ADDRESSES),
    LabMutation(
        attack="private_realm_of_a_public_registry",
        replaced={"registry.challenge.refuse_realm": anything, **NO_CHECK_OF_ADDRESSES},
    ),
    LabMutation(attack="private_redirect_of_a_public_registry", replaced=ANY_REDIRECT),
    LabMutation(
        attack="name_that_changes_between_check_and_connection",
        replaced={"registry.transport.Transport._addresses": checks_and_looks_up_again},
    ),
    LabMutation(attack="header_digest_with_other_bytes", replaced=HEADERS_BELIEVED),
    LabMutation(attack="other_bytes_under_a_digest", replaced=HEADERS_BELIEVED),
    LabMutation(attack="configuration_of_another_image", replaced={"image.digest.Digest.matches": yes}),
    LabMutation(attack="moved_tag_that_is_no_image", replaced=HEADERS_BELIEVED),
    LabMutation(attack="manifest_and_index_at_once", replaced={"image.manifest._shape": takes_it_for_a_manifest}),
    LabMutation(
        attack="media_type_that_contradicts_the_header",
        replaced={"image.manifest._media_type": asks_nobody_for_the_type},
    ),
    LabMutation(attack="digest_as_a_path", replaced={"registry.client._digest": takes_any_digest}),
    LabMutation(
        attack="endless_body",
        replaced={"registry.transport._read_body": reads_to_the_end},
        limits={"answer_timeout": 9},
    ),
    LabMutation(attack="announced_size_beyond_the_limit", replaced={"registry.transport._read_body": reads_to_the_end}),
    LabMutation(attack="slow_drip", replaced={"registry.connections.Deadline.clip": never_ends}, limits=DRIPPING),
    LabMutation(
        attack="slow_drip_of_the_head",
        replaced={"registry.connections.Deadline.clip": never_ends},
        limits=DRIPPING,
    ),
    LabMutation(attack="gzip_bomb", replaced={"registry.transport._refuse_compressed": anything}),
    LabMutation(attack="endless_redirects", limits={"redirects": 1000, "answer_timeout": 9}),
    LabMutation(attack="enormous_token", limits={"token_size": 1 << 30}),
    LabMutation(attack="token_with_a_line_break", replaced={"registry.challenge.read_token": takes_any_token}),
    LabMutation(attack="helper_that_hangs", limits={"helper_timeout": 9}),
    LabMutation(attack="helper_that_floods", limits={"helper_output": 1 << 50}),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.attack for mutation in MUTATIONS])
def test_without_its_verification_it_succeeds(mutation, tmp_path):
    with Lab(tmp_path, QUICK._replace(**(UNHURRIED | mutation.limits))) as lab, mutation.applied():
        assert ATTACKS[mutation.attack](lab)


def test_every_attack_has_its_verification():
    assert {mutation.attack for mutation in MUTATIONS} | set(NOTHING_TO_DISABLE) == set(ATTACKS)
