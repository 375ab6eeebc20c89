"""Whatever lies where a record should: it is read, or named as damaged, and the schema agrees with the reader."""

from __future__ import annotations

import contextlib
import copy
import json
import tempfile
from pathlib import Path

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st

import snakemake_apptainer_freshness
from snakemake_apptainer_freshness.common.tables import Damaged, NewerVersion
from snakemake_apptainer_freshness.errors import InvalidRecord
from snakemake_apptainer_freshness.record import events
from snakemake_apptainer_freshness.record.events import RecordReader
from snakemake_apptainer_freshness.record.journal import folder_of, read_all
from snakemake_apptainer_freshness.record.pruning import chain
from snakemake_apptainer_freshness.record.run import JobRecord, JobResult, OutputRecord
from tests.support import journals

SCHEMA = json.loads(
    (Path(snakemake_apptainer_freshness.__file__).parent / "schemas" / "run-record.schema.json").read_text()
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

TEXT = st.text(max_size=30) | st.binary(max_size=10).map(lambda name: name.decode(errors="surrogateescape"))
NUMBER = st.integers(0, 2**63 - 1)
HEX = st.just("") | st.text("0123456789abcdef", min_size=64, max_size=64)
WORDS = st.sampled_from(["finished", "failed", "running", "unknown", "verified", "altered", "current", "lost", "later"])
TIMES = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456Z", "2026-01-01", "now", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=5) | HEX | WORDS | TIMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
OUTPUT = st.builds(OutputRecord, path=TEXT, size=NUMBER, mtime_ns=NUMBER, sha256=HEX, temporary=st.booleans())
JOB = st.builds(
    JobRecord,
    id=NUMBER,
    rule=TEXT,
    outputs=st.lists(OUTPUT, max_size=3).map(tuple),
    wildcards=st.dictionaries(TEXT, TEXT, max_size=2),
    reference=TEXT,
    image=TEXT,
    disk=st.sampled_from(["", "verified", "altered"]),
    host=TEXT,
    started=st.just(journals.JOB.started),
    ended=st.just(journals.JOB.ended),
    attempt=NUMBER,
    result=st.just(JobResult.FINISHED),
)


def head():
    return {"version": 1, "run": dict(events.head(journals.RUN, journals.DEAD))}


def through_json(table):
    return json.loads(json.dumps(table))


def is_accepted(document):
    """Whether the reader takes all of `document`, whose jobs end as they started."""
    try:
        reading = RecordReader.of({key: value for key, value in document.items() if key != "events"})
        for event in document["events"]:
            reading.add(event)
    except (Damaged, NewerVersion):
        return False
    return True


@given(st.lists(JOB, max_size=3, unique_by=lambda job: (job.id, job.attempt)))
def test_what_is_written_is_read_and_fits_the_schema(jobs):
    tables = [event for job in jobs for event in (events.job_started(job), events.job_ended(job))]
    document = through_json(head() | {"events": tables})
    reading = RecordReader.of({key: document[key] for key in ("version", "run")})
    for table in document["events"]:
        reading.add(table)

    assert reading.done().jobs == tuple(jobs)
    VALIDATOR.validate(document)


@settings(max_examples=300)
@given(st.data())
def test_the_schema_and_the_reader_agree_on_any_value_in_any_place(data):
    document = through_json(head() | {"events": journals.tables(journals.RUN)})
    places = list(_places(document))
    *way, last = data.draw(st.sampled_from(places))
    inner = document
    for step in way:
        inner = inner[step]
    before = copy.deepcopy(inner[last])
    inner[last] = data.draw(JSON)
    if _links(way, last):
        inner[last] = before  # what ties a job's end to its start is no matter of a schema

    assert VALIDATOR.is_valid(document) == is_accepted(document), (way, last, inner[last])


def _places(value, way=()):
    """The way to each value in `value`, but for whole events and lists of them."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            if way or key == "run":
                yield (*way, key)
            if key != "events" or not way:
                yield from _places(value[key], (*way, key))


def _links(way, last):
    return way[:1] == ["events"] and (last in ("id", "attempt", "event", "result", "outputs") or len(way) == 1)


def read_any(content):
    with tempfile.TemporaryDirectory() as name:
        path = folder_of(Path(name)) / "20260101T000000.000000Z.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        with contextlib.suppress(InvalidRecord):
            chain(read_all(Path(name)))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_run_or_an_error_of_ours(content):
    read_any(content)


@given(st.data())
def test_any_change_to_a_record_is_a_run_or_an_error_of_ours(data):
    lines = [json.dumps(head())[:-1] + ', "events": [', *(json.dumps(table) for table in journals.tables(journals.RUN))]
    content = bytearray("\n".join([*lines, "]}", ""]).encode())
    start = data.draw(st.integers(0, len(content)))
    content[start : start + data.draw(st.integers(0, 50))] = data.draw(st.binary(max_size=20))
    read_any(bytes(content))
