"""SARIF 2.1.0: the parts of its schema that we use, by hand from the specification's own words."""

import json
import os
from urllib.parse import unquote_to_bytes, urlsplit

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.audit.render.sarif import RULES, results
from snakemake_apptainer_freshness.common import sarif_log
from snakemake_apptainer_freshness.common.sarif_log import RELATED, SarifResult, dumps, uri_of
from tests.support import audits


def record(required, **properties):
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


MESSAGE = record(["text"], text={"type": "string", "minLength": 1})  # 3.11
URI = {"type": "string", "pattern": r"^[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*$"}  # RFC 3986
PLACE = record(  # 3.29
    ["artifactLocation"],
    artifactLocation=record(["uri"], uri=URI),
    region=record(["startLine"], startLine={"type": "integer", "minimum": 1}),
)
RULE = record(["id"], id={"type": "string"}, shortDescription=MESSAGE)  # 3.49
DRIVER = record(["name"], name={"type": "string"}, version={"type": "string"}, rules={"type": "array", "items": RULE})
RESULT = record(  # 3.27
    ["message"],
    ruleId={"type": "string"},
    ruleIndex={"type": "integer", "minimum": 0},
    level={"enum": ["none", "note", "warning", "error"]},
    message=MESSAGE,
    locations={"type": "array", "items": record([], physicalLocation=PLACE)},
    relatedLocations={
        "type": "array",
        "uniqueItems": True,
        "items": record([], id={"type": "integer", "minimum": 0}, physicalLocation=PLACE),
    },
    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
)
RUN = record(["tool"], tool=record(["driver"], driver=DRIVER), results={"type": "array", "items": RESULT})  # 3.14
LOG = record(  # 3.13
    ["version", "runs"],
    **{"$schema": {"type": "string", "format": "uri"}},
    version={"const": "2.1.0"},
    runs={"type": "array", "items": RUN},
)
VALIDATOR = jsonschema.Draft202012Validator(LOG)
PARTS = {"rule": "bad-image", "level": "error", "message": "it is bad"}


def log(*found, rules=RULES):
    return json.loads(dumps(found, rules, version="0.1.0"))


def only(**changes):
    return log(SarifResult(**PARTS | changes))["runs"][0]["results"][0]


def test_the_findings_of_an_audit_are_valid():
    found = log(*results(audits.sample()))

    VALIDATOR.validate(found)
    assert len(found["runs"][0]["results"]) == len(audits.sample().findings)


def test_no_finding_is_a_valid_log_too():
    VALIDATOR.validate(log())


def test_a_result_points_at_its_rule():
    found = log(SarifResult(**PARTS))["runs"][0]
    [result] = found["results"]

    assert found["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "bad-image"


def test_a_line_is_given_where_there_is_one():
    assert only(uri="Snakefile", line=7)["locations"][0]["physicalLocation"]["region"] == {"startLine": 7}
    assert "region" not in only(uri="Snakefile")["locations"][0]["physicalLocation"]
    assert "locations" not in only()


def test_so_many_other_places_are_listed_and_no_more():
    assert len(only(uri="a", related=[f"out{n}" for n in range(1000)])["relatedLocations"]) == RELATED


def test_a_finding_is_the_same_one_next_time_whatever_its_words():
    assert only(uri="a")["partialFingerprints"] == only(uri="a", message="other")["partialFingerprints"]
    assert only(uri="a")["partialFingerprints"] != only(uri="b")["partialFingerprints"]


def test_a_message_carries_neither_secret_nor_control_character():
    text = only(message="https://alice:secret@host/\u202e\x1b[31m\nnext")["message"]["text"]

    assert "secret" not in text
    assert text.isprintable()


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("results/a b.tsv", "results/a%20b.tsv"),
        ("/data/x", "file:///data/x"),
        ("a:b#c?d", "a%3Ab%23c%3Fd"),
        (audits.BAD_BYTES, "counts/caf%E9-%FF.tsv"),
        ("half\ud800", "half%5Cud800"),
    ],
    ids=["space", "absolute", "reserved", "invalid UTF-8", "no file's name"],
)
def test_a_path_becomes_a_uri(path, uri):
    assert uri_of(path) == uri


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name and not name.startswith(b"/")))
def test_any_name_comes_back_from_its_uri(name):
    uri = uri_of(os.fsdecode(name))

    assert urlsplit(uri).scheme == ""
    assert unquote_to_bytes(uri) == name
    jsonschema.validate(uri, URI)


def test_the_levels_are_ours():
    from snakemake_apptainer_freshness.audit.results import Severity

    assert set(sarif_log.LEVELS) == {str(severity) for severity in Severity}
