"""The JSON document, held to its schema."""

import json
from dataclasses import replace

import jsonschema
import pytest

from snakemake_apptainer_freshness.audit.difference import difference
from snakemake_apptainer_freshness.audit.render.json import SCHEMA, lines
from snakemake_apptainer_freshness.audit.results import FindingKind, OutputVerdict
from tests.support import audits

VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


def document(audit):
    return json.loads("\n".join(lines(audit)))


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)


@pytest.mark.parametrize(
    "audit",
    [
        audits.sample(),
        audits.large(50),
        replace(audits.sample(), outputs=(), findings=(), images=(), runs=(), edges=()),
    ],
    ids=["sample", "large", "empty"],
)
def test_every_document_fits_the_schema(audit):
    VALIDATOR.validate(document(audit))


def test_it_says_by_whom_an_image_was_signed():
    images = {image["reference"]: image for image in document(audits.sample())["image"]}
    [signature] = images[audits.HOSTILE]["sighting"][0]["signature"]
    assert signature["by"] == "<img src=x onerror=alert(4)>"
    assert images[audits.SALMON]["sighting"][0]["signature"] == []


def test_the_schema_knows_every_word():
    definitions = VALIDATOR.schema["$defs"]
    assert set(definitions["output"]["properties"]["verdict"]["enum"]) == {str(word) for word in OutputVerdict}
    assert set(definitions["finding"]["properties"]["kind"]["enum"]) == {str(word) for word in FindingKind}


@pytest.mark.parametrize("change", [{"version": 2}, {"more": 1}, {"finding": [{}]}], ids=["newer", "unknown", "empty"])
def test_the_schema_refuses_what_is_not_one(change):
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(document(audits.sample()) | change)


def test_everything_stands_in_it():
    audit = audits.sample()
    found = document(audit)

    assert [one["path"] for one in found["output"]] == [one.path for one in audit.outputs]
    assert [one["text"] for one in found["finding"]] == [one.text for one in audit.findings]
    assert [one["reference"] for one in found["image"]] == [one.reference for one in audit.images]
    assert [one["id"] for one in found["run"]] == [one.id for one in audit.runs]
    assert found["count"] == {word.value: audit.count(word) for word in OutputVerdict}
    assert (found["answer"], found["note"]) == (audit.answer, list(audit.notes))


def test_it_is_ascii_and_has_a_line_for_each_thing():
    audit = audits.sample()
    text = list(lines(audit))

    assert all(line.isascii() for line in text)
    assert sum(line.startswith('{"workdir"') and '"verdict"' in line for line in text) == len(audit.outputs)


def test_the_difference_of_two_runs_fits_the_schema():
    audit = audits.sample()
    found = document(replace(audit, difference=difference(*audit.runs[:2])))

    VALIDATOR.validate(found)
    assert found["diff"]["answer"].startswith("4 images, 2 settings differ")
    assert {one["kind"] for one in found["diff"]["change"]} == {"image", "setting", "output"}


def test_what_is_not_known_is_null():
    legacy = next(one for one in document(audits.sample())["output"] if one["path"] == "legacy/old.txt")

    assert (legacy["run"], legacy["digest"], legacy["job"]) == (None, None, None)
