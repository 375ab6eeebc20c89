"""What it means when Apptainer fails: told from what it said."""

import pytest

from snakemake_apptainer_freshness.apptainer.failures import Again, explain


@pytest.mark.parametrize(
    ("output", "meaning", "again"),
    [
        ("FATAL: while making image: write /x: no space left on device", "the disk is full", Again.NEVER),
        ("write /x: disk quota exceeded", "the disk quota is used up", Again.NEVER),
        ("open /x: read-only file system", "a folder is read-only", Again.NEVER),
        (
            "TOOMANYREQUESTS: You have reached your pull rate limit",
            "the registry has had too many requests",
            Again.LATER,
        ),
        ("Error: unexpected end of JSON input", "two pulls met in Apptainer's cache", Again.SOON),
        (
            "could not finalize cached file: rename a b: no such file or directory",
            "two pulls met in Apptainer's cache",
            Again.SOON,
        ),
        ("MANIFEST_UNKNOWN: manifest unknown", "the registry no longer has it", Again.NEVER),
        (
            "GET https://r/v2/x/manifests/y: UNAUTHORIZED: authentication required",
            "the registry wants a login",
            Again.NEVER,
        ),
        ("DENIED: requested access to the resource is denied", "the registry refuses to serve it", Again.NEVER),
        ("http: server gave HTTP response to HTTPS client", "the registry speaks plain http", Again.NEVER),
        ("x509: certificate signed by unknown authority", "the registry's certificate is not trusted", Again.NEVER),
        ("dial tcp 1.2.3.4:443: i/o timeout", "the registry could not be reached", Again.LATER),
        ("read: connection reset by peer", "the registry could not be reached", Again.LATER),
        ("dial tcp: lookup quay.io: no such host", "the registry could not be reached", Again.LATER),
        ("unexpected status code 503 Service Unavailable", "the registry could not be reached", Again.LATER),
    ],
)
def test_a_known_message_is_explained(output, meaning, again):
    error = explain("docker://x", 255, output)
    assert error.message.startswith(f"cannot pull docker://x: {meaning}\n")
    assert output in error.message
    assert error.hint
    assert (error.again, error.final) == (again, again is Again.NEVER)


def test_an_unknown_failure_is_shown_as_it_is():
    error = explain("docker://x", 255, "something else")
    assert error.message == "cannot pull docker://x: it ended with status 255\n  something else"
    assert error.again is Again.NEVER
    assert not error.final
    assert "killed by signal 9" in explain("docker://x", -9, "").message


def test_no_secret_of_its_output_is_shown():
    error = explain("docker://x", 1, "GET https://me:hunter2@r/v2/?token=abc failed with Authorization: Bearer abc123")
    assert "hunter2" not in str(error)
    assert "abc" not in str(error)
