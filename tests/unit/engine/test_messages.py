"""Tests of how we talk to the user through Snakemake."""

import logging

import pytest
from snakemake.logging import logger

from snakemake_apptainer_freshness.engine.messages import (
    ContainerFreshnessError,
    Line,
    as_workflow_errors,
    group_by_reason,
    list_first,
    log_line,
    workflow_error,
)
from snakemake_apptainer_freshness.errors import FreshnessError


@pytest.fixture
def records():
    seen = []
    handler = logging.Handler()
    handler.emit = seen.append
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield seen
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.mark.parametrize(("problem", "level"), [(True, logging.WARNING), (False, logging.INFO)])
def test_a_problem_is_a_warning_and_the_rest_is_information(records, problem, level):
    log_line(Line(text="a line", problem=problem))

    assert [(record.levelno, record.getMessage()) for record in records] == [(level, "a line")]


def test_what_is_told_has_no_secret_in_it(records):
    log_line(Line(text="asked https://me:secret@example.org/v2"))

    assert "secret" not in records[0].getMessage()


def test_a_reason_that_references_share_is_given_once():
    reasons = {"a": "no  answer", "b": "another", "c": "no answer"}

    assert list(group_by_reason(reasons)) == [(["a", "c"], "no answer"), (["b"], "another")]


@pytest.mark.parametrize(
    ("named", "text"),
    [("a", "a"), ("abc", "a, b, c"), ("abcd", "a, b, c and 1 more"), ("abcdef", "a, b, c and 3 more")],
)
def test_of_many_the_first_are_named(named, text):
    assert list_first(list(named)) == text


def test_our_errors_become_errors_of_snakemake_without_frames():
    with pytest.raises(ContainerFreshnessError, match="what is wrong\nwhat to do") as caught, as_workflow_errors():
        raise FreshnessError("what is wrong", hint="what to do")

    assert caught.value.__traceback__ is None


def test_an_error_is_told_as_explained():
    with pytest.raises(ContainerFreshnessError, match="explained: bad"), as_workflow_errors("explained: {}".format):
        raise FreshnessError("bad")


def test_another_error_is_left_as_it_is():
    with pytest.raises(ZeroDivisionError), as_workflow_errors():
        raise ZeroDivisionError


def test_an_error_has_the_place_of_its_rule():
    class Rule:
        name, lineno, snakefile = "r", 3, "Snakefile"

    error = workflow_error("bad", Rule)

    assert (error.rule, str(error)) == (Rule, "bad (rule r, line 3, Snakefile)")
