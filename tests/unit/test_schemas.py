"""The schemas that editors use say what the programs say: what one takes the other takes, too."""

import datetime as dt
import json
import tomllib
from importlib import resources

import jsonschema
import pytest

from snakemake_apptainer_freshness import lockfile, schemas
from snakemake_apptainer_freshness.audit import acknowledge
from snakemake_apptainer_freshness.audit.results import FindingKind
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.lockfile import HINTS, Lock
from snakemake_apptainer_freshness.policy import UNPINNABLE, load_site_policy
from snakemake_apptainer_freshness.settings import Options, parse_options
from tests.support.pins import lock_entry

DIGEST = "sha256:" + "a" * 64
SIGNERS = [
    ("", '"quay.io" = {key = "cosign.pub"}'),
    ("level = 'warn'", '"quay.io/lab/*" = [{key = "a.pub"}, {key = "b.pub"}]'),
    ("trusted_root = 'root.json'", '"quay.io" = {identity = "a@lab.example", issuer = "https://lab.example"}'),
    ("", '"library" = {fingerprint = "0123456789abcdef0123 456789ABCDEF01234567"}'),
    ("", ""),
    ("roots = 'root.json'", '"quay.io" = {key = "cosign.pub"}'),
    ("", '"quay.io" = {}'),
    ("", '"quay.io" = []'),
    ("", '"quay.io" = "cosign.pub"'),
    ("", '"quay.io" = {identity = "a@lab.example"}'),
    ("", '"quay.io" = {key = "cosign.pub", fingerprint = "0123456789ABCDEF0123456789ABCDEF01234567"}'),
    ("", '"library" = {fingerprint = "01234567"}'),
]
ENTRY = {
    "reference": "docker://quay.io/a/b:1",
    "pinned": f"docker://quay.io/a/b@{DIGEST}",
    "digest": DIGEST,
    "media_type": "application/vnd.oci.image.index.v1+json",
}


def schema(name):
    return json.loads(resources.files(schemas).joinpath(f"{name}.schema.json").read_text())


def takes(name, document):
    return jsonschema.Draft202012Validator(schema(name)).is_valid(document)


def parses(parse, value):
    try:
        parse(value)
    except FreshnessError:
        return False
    return True


@pytest.mark.parametrize("name", ["lock", "config", "site", "acknowledged"])
def test_each_is_a_schema(name):
    jsonschema.Draft202012Validator.check_schema(schema(name))


def test_a_lock_that_we_write_fits():
    lock = Lock.of([lock_entry(ENTRY["reference"], DIGEST, {"linux/amd64": DIGEST}, hints={"created": "2026-01-01"})])
    assert takes("lock", tomllib.loads(lockfile.dumps(lock)))


@pytest.mark.parametrize(
    "change",
    [
        {"other": 1},
        {"digest": "sha256:aa"},
        {"digest": DIGEST.upper()},
        {"platforms": {"amd64": DIGEST}},
        {"platforms": {"linux/amd64": "x"}},
        {"hints": {"other": "x"}},
        {"pinned": ""},
        {"media_type": 1},
    ],
)
def test_a_lock_that_we_refuse_does_not_fit(change):
    import tomli_w

    document = {"version": 1, "image": [ENTRY | change]}
    assert not takes("lock", document)
    assert not parses(lockfile.loads, tomli_w.dumps(document))


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        None,
        "lock",
        "true",
        "sometimes",
        3,
        {},
        {"mode": "frozen"},
        {"mode": False},
        {"mode": "x"},
        {"lockfile": "a.lock"},
        {"lockfile": ""},
        {"on_moved": "error"},
        {"on_moved": "repair"},
        {"on_unverified": "repair"},
        {"on_unpinnable": "ignore"},
        {"pin": "platform"},
        {"pin": "tag"},
        {"rerun": "content"},
        {"rerun": "sometimes"},
        {"policy": {}},
        {"policy": []},
        {"colour": "red"},
    ],
)
def test_the_configuration_fits_where_it_is_understood(value):
    understood = parses(lambda one: parse_options(one, source="test"), value)
    assert takes("config", {"apptainer_freshness": value}) is understood


def test_every_option_stands_in_the_schema():
    assert set(schema("config")["$defs"]["mapping"]["properties"]) == set(Options.__dataclass_fields__)


def test_every_source_and_every_hint_stands_in_a_schema():
    refused = schema("site")["$defs"]["policy"]["properties"]["sources"]["properties"]["refuse"]["items"]["enum"]
    assert refused == [*(scheme.value for scheme in Scheme), UNPINNABLE]
    hints = schema("lock")["properties"]["image"]["items"]["properties"]["hints"]["properties"]
    assert set(hints) == HINTS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[policy]",
        "[other]",
        '[policy.registries]\nallow = ["quay.io"]',
        "[policy.registries]\nallow = []",
        '[policy.registries]\nallow = ["quay.io"]\nlevel = "fatal"',
        '[policy.tags]\nrefuse = ["latest"]\nrequired = true',
        "[policy.tags]",
        "[policy.tags]\nrequired = true",
        "[policy.tags]\nrequired = false",
        '[policy.sources]\nrefuse = ["http", "unpinnable"]',
        '[policy.sources]\nrefuse = ["ftp"]',
        '[policy.platforms]\nrequire = ["linux/amd64"]',
        '[policy.platforms]\nrequire = ["amd64"]',
        "[policy.age]\nat_most = 30\nlevel = 'warn'",
        "[policy.age]\nat_most = 0",
        "[policy.age]\nat_most = true",
        *(f"[policy.signed_by]\n{more}\n[policy.signed_by.images]\n{rule}" for more, rule in SIGNERS),
    ],
)
def test_a_sites_policy_fits_where_it_is_understood(text):
    assert takes("site", tomllib.loads(text)) is parses(load_site_policy, text)


def test_the_workflows_policy_is_the_sites():
    assert schema("config")["$defs"]["policy"] == schema("site")["$defs"]["policy"]


ACKNOWLEDGED = {
    "finding": '"mixed-digests"',
    "subject": '"results/*.txt"',
    "reason": '"looked at"',
    "who": '"ada@site.org"',
    "until": "2027-03-01",
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"finding": '"no-such"'},
        {"finding": "3"},
        {"subject": '""'},
        {"reason": '"  "'},
        {"who": "true"},
        {"until": "3"},
        {"until": '"soon"'},
        {"who": None},
        {"until": None},
        {"other": '"x"'},
    ],
)
def test_an_acknowledgement_fits_where_it_is_understood(change):
    lines = [f"{key} = {value}" for key, value in (ACKNOWLEDGED | change).items() if value is not None]
    text = "\n".join(["version = 1", "[[acknowledged]]", *lines])
    understood = parses(lambda one: acknowledge.parse(one.encode(), "audit.toml"), text)
    as_editors_see_it = json.loads(json.dumps(tomllib.loads(text), default=dt.date.isoformat))
    validator = jsonschema.Draft202012Validator(schema("acknowledged"), format_checker=jsonschema.FormatChecker())

    assert validator.is_valid(as_editors_see_it) is understood is (change == {})


@pytest.mark.parametrize(
    "text", ["version = 1", "version = 2\nacknowledged = []", "acknowledged = []", "version = 1\nx = 1"]
)
def test_a_file_of_acknowledgements_that_we_refuse_does_not_fit(text):
    assert not takes("acknowledged", tomllib.loads(text))
    assert not parses(lambda one: acknowledge.parse(one.encode(), "audit.toml"), text)


def test_every_finding_can_be_acknowledged_by_the_schema():
    entry = schema("acknowledged")["properties"]["acknowledged"]["items"]["properties"]
    assert set(entry["finding"]["enum"]) == set(FindingKind.__members__.values())
