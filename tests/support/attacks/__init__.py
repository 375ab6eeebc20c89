"""Attacks by a registry on its client. Each takes a lab, attacks, and says whether it succeeded.

They are on the login (`logins`), on where requests are sent (`addresses`), on what is believed (`beliefs`), and on
time and memory (`costs`). The tests in ``tests/security`` expect each to fail; ``test_mutations.py`` takes one
verification away at a time and expects the matching attack to succeed, which proves that it is the verification that
stops it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from tests.support.lab import Lab, manifest
from tests.support.replies import Reply
from tests.support.simulator import Simulator

REPOSITORY = "team/tool"
MANIFESTS = f"/v2/{REPOSITORY}/manifests/"
METADATA = "169.254.169.254"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def attacks_of(*modules: ModuleType) -> dict[str, Callable[[Lab], bool]]:
    """The attacks of these modules by name: what takes a lab and nothing else, and says whether it succeeded."""
    return {
        name: function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and list(inspect.signature(function).parameters) == ["lab"]
        and inspect.signature(function).return_annotation == "bool"
        and name[0] != "_"
    }


def challenge(realm: str) -> Reply:
    """A 401 that wants a token from `realm`."""
    return Reply(status=401, headers=[("WWW-Authenticate", f'Bearer realm="{realm}",service="x"')])


def redirect(location: str) -> Reply:
    return Reply(status=307, headers=[("Location", location)])


def honest(lab: Lab, name: str = "registry.example", **options: Any) -> tuple[Simulator, str]:
    """A registry with one image, and the image's reference."""
    registry = lab.registry(name, **options)
    registry.publish(REPOSITORY, "1", manifest())
    return registry, f"docker://{registry.host}/{REPOSITORY}:1"


def with_login(lab: Lab, name: str = "registry.example") -> tuple[Simulator, str]:
    """A registry that wants a login, which the user has."""
    registry, reference = honest(lab, name, auth="basic", users={"alice": lab.password})
    lab.log_in(registry.host)
    return registry, reference


def redirect_who_logs_in(registry: Simulator, location: str) -> None:
    """Send everybody who has shown a login to `location`."""
    registry.answer(MANIFESTS, lambda request: redirect(location) if request.authorization else None)
