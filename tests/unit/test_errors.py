"""Errors tell a person what to do and a script what kind they are; they show no secret."""

import pytest

from snakemake_apptainer_freshness import errors


def test_every_error_of_the_tree_in_the_docstring_exists_and_every_class_stands_in_it():
    tree = errors.__doc__.split("::", 1)[1]
    named = {
        word
        for word in tree.replace("\u251c\u2500\u2500", " ").replace("\u2514\u2500\u2500", " ").split()
        if word.isidentifier()
    }
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.FreshnessError)
    }

    assert classes <= named


@pytest.mark.parametrize(
    ("error", "status"),
    [(errors.Finding, 1), (errors.NotLocked, 1), (errors.InvalidLock, 2), (errors.NotFound, 3)],
)
def test_the_class_decides_the_exit_status(error, status):
    assert error("x").exit_status == status


def test_the_hint_comes_after_the_message():
    assert str(errors.UsageError("it failed", hint="try again")) == "it failed\ntry again"
    assert str(errors.UsageError("it failed")) == "it failed"


def test_failures_of_several_references_are_told_at_once_with_the_worst_exit_status():
    error = errors.PinningFailed(
        {
            "docker://a": errors.NotLocked("not there", hint="add it"),
            "docker://b": errors.TimedOut("no answer", hint="add it"),
        }
    )

    assert error.exit_status == 3
    assert str(error) == ("cannot pin 2 container images:\n  docker://a: not there\n  docker://b: no answer\nadd it")


@pytest.mark.parametrize(
    "secret_text",
    [
        "GET https://user:hunter2@host.example/v2/ failed",
        "Authorization: Basic hunter2",
        "authorization=Bearer hunter2",
        "realm https://host.example/token?scope=x&password=hunter2",
        "https://host.example/blob?X-Amz-Signature=hunter2&x=1",
        "https://host.example/t?access_token=hunter2",
        "https://host.example/x.sif?sv=1&sig=hunter2",
        "https://host.example/x.sif?api_key=hunter2",
    ],
)
def test_a_secret_in_what_the_world_said_does_not_show(secret_text):
    error = errors.RegistryError(secret_text, hint=secret_text)

    assert "hunter2" not in str(error)
    assert "hunter2" not in repr(error)


def test_a_pinned_reference_is_no_login():
    assert str(errors.RegistryError("docker://ubuntu@sha256:abc")) == "docker://ubuntu@sha256:abc"


def test_terminal_escapes_and_bidirectional_marks_do_not_reach_the_terminal():
    shown = str(errors.RegistryError("a\x1b[2Jb\u202ec\ud800d"))

    assert shown == "a\ufffd[2Jb\ufffdc\ufffdd"
