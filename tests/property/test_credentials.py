"""Login files: any bytes in, logins or our own error out, and no secret in the error."""

import base64
import json

from hypothesis import example, given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.errors import InvalidLogin
from snakemake_apptainer_freshness.registry import credentials
from snakemake_apptainer_freshness.registry.containers_conf import Repository
from snakemake_apptainer_freshness.registry.credentials import Credentials

SECRET = "canary-secret"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(SECRET) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
AUTH = st.dictionaries(
    st.sampled_from(["auth", "username", "password", "identitytoken", "registrytoken", "other"]), JSON, max_size=4
)
FILE = st.dictionaries(
    st.sampled_from(["auths", "credHelpers", "credsStore", "HttpHeaders"]),
    st.dictionaries(st.text(max_size=20), AUTH | JSON, max_size=3) | JSON,
    max_size=4,
).map(lambda document: json.dumps(document).encode())
HOST = st.from_regex(r"[a-z]{1,5}(\.[a-z]{1,5}){0,2}(:[0-9]{1,4})?", fullmatch=True)


@given(st.binary(max_size=300) | FILE)
@example(b"[" * 100_000)
@example(b'{"auths": ' + b"9" * 5000 + b"}")
@example(b'{"auths": {"a": {"auth": "' + b"QQ" * 1000 + b'"}}}')
def test_any_bytes_are_logins_or_an_error_that_quotes_nothing(content):
    try:
        file = credentials.parse(content, "a file")
    except InvalidLogin as error:
        assert SECRET not in str(error)  # noqa: PT017  no error is as good
        return
    for login in file.auths.values():
        assert SECRET not in repr(login).replace(repr(login.username), "")  # a name is shown


@given(HOST, st.text(min_size=1, max_size=20), st.text(max_size=20))
def test_what_was_stored_for_a_host_is_found_for_it_and_for_no_other(host, username, password):
    if ":" in username or password.strip("\0") != password:
        return
    auth = base64.b64encode(f"{username}:{password}".encode("utf-8", "surrogatepass")).decode()
    try:
        file = credentials.parse(json.dumps({"auths": {host: {"auth": auth}}}).encode(), "a file")
    except InvalidLogin:
        assert any("\ud800" <= character <= "\udfff" for character in username + password)
        return
    finder = Credentials({})
    finder._file = file
    login = finder.find(Repository(host=host, repository="team/tool"))
    assert (login.username, login.password) == (username, password)
    assert finder.find(Repository(host="x" + host, repository="team/tool")) is None
    assert finder.find(Repository(host=host + ".evil", repository="team/tool")) is None
