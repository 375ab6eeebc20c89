"""Logins: found where the program that Snakemake runs finds them, and nowhere else (:mod:`.login_places`).

Apptainer resolves with one library and downloads with another, and they read the file differently: both look through
``auths`` (host and repository, the host, any key that is a URL of the host), both ask the helper that ``credHelpers``
lists for the host; only the first knows namespaces as keys, only the second asks ``credsStore``, for everything. A
login that serves only one of them is of no use. SingularityCE, from 4.1 on, has the second library alone. Docker Hub's
key is ``https://index.docker.io/v1/``.

Credential helpers: foreign programs that keep logins (``docker-credential-*``, docker-credential-helpers).

A helper gets the key on its standard input, a few seconds, and a bounded number of bytes to answer with. What takes
more is killed with its children. What it writes to standard error is never read, because it may be the secret, and no
error quotes its answer.
"""

import base64
import binascii
import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.errors import InvalidLogin
from snakemake_apptainer_freshness.registry.challenge import Login
from snakemake_apptainer_freshness.registry.containers_conf import Repository
from snakemake_apptainer_freshness.registry.login_places import AUTH_CONFIG, LoginRules, files_of_others, rules_here
from snakemake_apptainer_freshness.settings import LIMITS, Limits

TOKEN_USER: Final = "<token>"  # noqa: S105  a marker: where it stands, the secret is an identity token
_NOT_FOUND: Final = "credentials not found"


def ask_helper(helper: str, key: str, *, environ: Mapping[str, str], limits: Limits) -> Login | None:
    """Return the login that ``docker-credential-<helper> get`` has for `key`; None where it has none.

    Raises
    ------
    InvalidLogin
        where it is not there, takes too long, says too much, or is not understood; its words are not quoted.
    """
    program = f"docker-credential-{helper}"
    status, output = _run(program, key, environ, limits)
    if status != 0:
        if _NOT_FOUND in output.decode("utf-8", "replace").lower():
            return None
        raise _helper_failed(program, f"it ended with status {status}")
    try:
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _helper_failed(program, "its answer is not understood") from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise _helper_failed(program, "its answer is not understood")
    if username == TOKEN_USER:
        return Login(identity_token=secret, source=program)
    return Login(username=username, password=secret, source=program) if username else None


def _run(program: str, key: str, environ: Mapping[str, str], limits: Limits) -> tuple[int, bytes]:
    """Return exit status and output of a helper, which is killed with its children when it takes too much."""
    try:
        process = subprocess.Popen(
            [program, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            start_new_session=True,
        )
    except OSError as error:
        raise _helper_failed(program, error.strerror or "it cannot be started") from None
    try:
        output = _talk(process, key, program, limits)
        return process.wait(timeout=limits.helper_timeout), output
    except subprocess.TimeoutExpired:
        raise _helper_failed(program, f"it took more than {limits.helper_timeout:g} s") from None
    finally:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _talk(process: "subprocess.Popen[bytes]", key: str, program: str, limits: Limits) -> bytes:
    """Return all that the helper writes to its standard output, having read `key`."""
    assert process.stdin is not None  # noqa: S101  asked for with PIPE
    assert process.stdout is not None  # noqa: S101
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(key.encode())
        process.stdin.close()
    deadline = time.monotonic() + limits.helper_timeout
    output = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise _helper_failed(program, f"it took more than {limits.helper_timeout:g} s")
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                return bytes(output)
            output += piece
            if len(output) > limits.helper_output:
                raise _helper_failed(program, f"it wrote more than {limits.helper_output} bytes")


def _helper_failed(program: str, problem: str) -> InvalidLogin:
    return InvalidLogin(f"the credential helper {program} failed: {problem}", hint="run it by hand to see what it says")


DOCKER_HUB_KEY: Final = "https://index.docker.io/v1/"
MAX_SIZE: Final = 1024 * 1024
"""Of a login file, in bytes."""

_HELPER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEADER_TEXT: Final = re.compile(r"[\x21-\x7e]*")
_LOGIN_KEYS: Final = ("auth", "username", "password", "identitytoken", "registrytoken")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginFile:
    """What a Docker configuration file says about logins."""

    path: str = ""
    auths: Mapping[str, Login] = field(default_factory=dict, repr=False)
    helpers: Mapping[str, str] = field(default_factory=dict)
    """Host to helper."""
    store: str = ""
    """The helper for every other host."""


class Credentials:
    """Finds logins; reads the file once, when the first is wanted."""

    def __init__(self, environ: Mapping[str, str], *, limits: Limits = LIMITS) -> None:
        self._environ = environ
        self._limits = limits
        self._file: LoginFile | None = None
        self._known: LoginRules | None = None
        self._answers: dict[tuple[str, str], Login | None] = {}
        self._lock = threading.Lock()

    def find(self, place: Repository) -> Login | None:
        """Return the login that the program would use for `place`.

        Raises
        ------
        InvalidLogin
            where the file or a helper cannot be understood.
        """
        return from_environment(self._environ, self.rules) or self._usable(self._read(), place)

    def elsewhere(self, place: Repository) -> str:
        """Return where there is a login for `place` that does not help the program, as the end of a sentence.

        Or nothing.
        """
        try:
            file = self._read()
            if self._usable(file, place) is not None:
                return ""
            if login := self._for_resolving(file, place) or self._for_download(file, place):
                where = login.source if login.source == AUTH_CONFIG else file.path
                does, use = self.rules.name, self.rules.login_command
                return f"the one in {where} serves only half of what {does} does: use {use}"
        except InvalidLogin:
            return ""
        for name, path in files_of_others(self._environ, self.rules):
            if path == self.rules.file(self._environ) or not path.is_file():
                continue
            try:
                logins = read(path)
            except InvalidLogin:
                continue
            if logins.store or self._for_resolving(replace(logins, helpers={}), place) or place.host in logins.helpers:
                return f"there is one in {name}, where {self.rules.name} does not look"
        if any(is_key_of(key, _key_host(place)) for key in from_variable(self._environ)):
            return f"there is one in {AUTH_CONFIG}, which this {self.rules.name} does not read, or not under that key"
        return ""

    @property
    def rules(self) -> LoginRules:
        """What the program reads; it is asked for its version once, when the first login is wanted."""
        with self._lock:
            if self._known is None:
                self._known = rules_here(self._environ)
            return self._known

    def _read(self) -> LoginFile:
        path = self.rules.file(self._environ)
        with self._lock:
            if self._file is None:
                self._file = LoginFile() if path is None else read(path)
            return self._file

    def _usable(self, file: LoginFile, place: Repository) -> Login | None:
        """Return a login that serves all of the program's libraries; where two read the file, both."""
        if not self.rules.resolves_apart:
            return self._for_download(file, place)
        login = self._for_resolving(file, place)
        return login if login is not None and self._for_download(file, place) is not None else None

    def _for_resolving(self, file: LoginFile, place: Repository) -> Login | None:
        """By containers/image (``pkg/docker/config``, ``findCredentialsInFile``), which knows no ``credsStore``."""
        if place.host in file.helpers:
            return self._ask(file.helpers[place.host], place.host)
        for key in _parents(place):
            if key in file.auths:
                return file.auths[key]
        return _by_host(file, _key_host(place))

    def _for_download(self, file: LoginFile, place: Repository) -> Login | None:
        """By docker/cli (``config/configfile``), asked by the program's keychain for the repository, then the host."""
        hub = place.host == "docker.io"
        repository = f"index.docker.io/{place.repository}" if hub else str(place)
        first = from_variable(self._environ) if self.rules.reads_auth_config else {}
        for key in (repository, DOCKER_HUB_KEY if hub else place.host):
            if key in first:
                return first[key]
            helper = file.helpers.get(key) or file.store
            login = self._ask(helper, key) if helper else file.auths.get(key) or _by_host(file, key)
            if login is not None:
                return login
        return None

    def _ask(self, helper: str, key: str) -> Login | None:
        with self._lock:
            if (helper, key) not in self._answers:
                self._answers[helper, key] = ask_helper(helper, key, environ=self._environ, limits=self._limits)
            return self._answers[helper, key]


def _parents(place: Repository) -> tuple[str, ...]:
    """Return ``host/team/tool``, ``host/team``, ``host``."""
    parts = place.repository.split("/")
    return tuple("/".join([place.host, *parts[:count]]) for count in range(len(parts), -1, -1))


def _key_host(place: Repository) -> str:
    return "index.docker.io" if place.host == "docker.io" else place.host


def _by_host(file: LoginFile, host: str) -> Login | None:
    return next((login for key, login in file.auths.items() if is_key_of(key, host)), None)


def is_key_of(key: str, host: str) -> bool:
    """Return whether `key`, which may be a URL or have a path, is one of `host` (docker/cli, ``ConvertToHostname``)."""
    return key.removeprefix("http://").removeprefix("https://").partition("/")[0] == host


def from_environment(environ: Mapping[str, str], rules: LoginRules) -> Login | None:
    """Return the login that `environ` has for every registry, as a program of those `rules` takes it."""
    username, password = rules.pair(environ)
    if not username or not password:
        return None
    return Login(username=username, password=password, source="the environment (DOCKER_USERNAME)")


def from_variable(environ: Mapping[str, str]) -> Mapping[str, Login]:
    """Return the logins that ``DOCKER_AUTH_CONFIG`` has, by their keys; each counts for just its key.

    None where docker/cli refuses it, and goes on with the file: it may have ``auths`` with ``auth`` each, and no more.
    """
    try:
        document = json.loads(environ.get(AUTH_CONFIG) or "{}")
        if not isinstance(document, dict) or document.keys() - {"auths"}:
            return {}
        logins = {}
        for key, value in _mapping(document, "auths", AUTH_CONFIG).items():
            if not isinstance(value, dict) or value.keys() != {"auth"} or not isinstance(value["auth"], str):
                return {}
            username, password = _decode(value["auth"], key, AUTH_CONFIG)
            logins[key] = Login(username=username, password=password, source=AUTH_CONFIG)
    except (ValueError, RecursionError, InvalidLogin):
        return {}
    return logins


def read(path: Path) -> LoginFile:
    """Return the logins in the file at `path`; none where it does not exist.

    Raises
    ------
    InvalidLogin
        where it cannot be read or understood.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SIZE + 1)
    except FileNotFoundError:
        return LoginFile(path=str(path))
    except OSError as error:
        raise _invalid(str(path), error.strerror or "it cannot be read") from None
    if len(content) > MAX_SIZE:
        raise _invalid(str(path), f"it is larger than {MAX_SIZE} bytes")
    return parse(content, str(path))


def parse(content: bytes, source: str) -> LoginFile:
    """Return the logins that `content` spells, the text of a Docker configuration file; `source` names it, for errors.

    Raises
    ------
    InvalidLogin
        where it is not understood; the message never quotes it.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise _invalid(source, "it is not JSON") from None
    if not isinstance(document, dict):
        raise _invalid(source, "it is not an object")
    auths = _mapping(document, "auths", source)
    helpers = _mapping(document, "credHelpers", source)
    store = "" if document.get("credsStore") is None else document["credsStore"]
    if not isinstance(store, str) or not all(isinstance(helper, str) for helper in helpers.values()):
        raise _invalid(source, "a helper's name must be a text")
    for helper in (store, *helpers.values()):
        if helper and not _HELPER_NAME.fullmatch(helper):
            raise _invalid(source, "a helper's name has characters that no program's name has")
    return LoginFile(
        path=source,
        auths={key: login for key, value in auths.items() if (login := _login(value, key, source)) is not None},
        helpers=helpers,
        store=store,
    )


def _login(value: object, key: str, source: str) -> Login | None:
    """Return one entry of ``auths``.

    None for an empty one, which Docker leaves behind where a helper has the secret.
    """
    if not isinstance(value, dict):
        raise _invalid(source, f"the login for {key[:80]!r} is not an object")
    texts = {name: "" if value.get(name) is None else value[name] for name in _LOGIN_KEYS}
    if not all(isinstance(text, str) for text in texts.values()):
        raise _invalid(source, f"the login for {key[:80]!r} is not made of texts")
    username, password = texts["username"], texts["password"]
    if texts["auth"]:
        username, password = _decode(texts["auth"], key, source)
    if not _HEADER_TEXT.fullmatch(texts["registrytoken"]):
        raise _invalid(source, f"the token for {key[:80]!r} has characters that no token has")
    login = Login(
        username=username,
        password=password,
        identity_token=texts["identitytoken"],
        registry_token=texts["registrytoken"],
        source=source,
    )
    return None if login == Login(source=source) else login


def _decode(auth: str, key: str, source: str) -> tuple[str, str]:
    try:
        username, colon, password = base64.b64decode(auth, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        username, colon, password = "", "", ""
    if not colon or not username:
        raise _invalid(source, f"the login for {key[:80]!r} is not base64 of NAME:PASSWORD")
    return username, password.strip("\0")


def _mapping(document: Mapping[str, Any], key: str, source: str) -> dict[str, Any]:
    value = {} if document.get(key) is None else document[key]
    if not isinstance(value, dict):
        raise _invalid(source, f"{key} must be an object")
    return value


def _invalid(source: str, problem: str) -> InvalidLogin:
    return InvalidLogin(
        f"cannot use the logins in {source}: {problem}", hint="log in again with apptainer registry login"
    )
