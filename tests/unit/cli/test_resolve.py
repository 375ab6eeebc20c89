"""``apptainer-freshness resolve``."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from snakemake_apptainer_freshness import cli
from tests.support.attacks import REPOSITORY
from tests.support.digests import sha256
from tests.support.lab import manifest
from tests.support.replies import Reply
from tests.support.simulator import Simulator

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-c", "from snakemake_apptainer_freshness.cli import main; main()"]


@pytest.fixture
def registry(monkeypatch, tmp_path):
    with Simulator() as simulator:
        simulator.publish(REPOSITORY, "1", manifest())
        monkeypatch.setenv("APPTAINER_NOHTTPS", "1")
        monkeypatch.setenv("HOME", str(tmp_path))
        yield simulator


@pytest.fixture
def reference(registry):
    return f"docker://{registry.host}/{REPOSITORY}:1"


def run(*arguments):
    return cli.run(["resolve", *arguments])


def test_it_prints_the_reference_and_its_pinned_form(registry, reference, capsys):
    assert run(reference) == 0
    pinned = f"docker://{registry.host}/{REPOSITORY}@{sha256(manifest())}"
    assert capsys.readouterr().out == f"{reference} → {pinned}\n"


def test_a_dash_reads_references_from_standard_input(reference, monkeypatch, capsys):
    result = subprocess.run(
        [*COMMAND, "resolve", "-"],
        input=f"{reference}\n\n  {reference}  \n",
        text=True,
        capture_output=True,
        cwd=ROOT,
        check=True,
    )
    assert result.stdout.count("→") == 1


def test_json_has_the_keys_of_the_lock(reference, capsys):
    assert run("--json", reference, reference + "0") == 3
    document = json.loads(capsys.readouterr().out)
    (image,) = document["image"]
    assert set(image) == {"reference", "pinned", "digest", "media_type"}
    (error,) = document["error"]
    assert (error["reference"], error["error"]) == (reference + "0", "NotFound")


def index():
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": sha256(manifest()),
        "size": 1,
        "platform": {"os": "linux", "architecture": "arm64"},
    }
    media_type = "application/vnd.oci.image.index.v1+json"
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]}).encode(), media_type


def test_a_platform_s_image_is_pinned_where_it_is_asked_for(registry, capsys):
    registry.publish(REPOSITORY, "multi", *index())
    reference = f"docker://{registry.host}/{REPOSITORY}:multi"
    assert run("--platform", "linux/arm64", reference) == 0
    assert capsys.readouterr().out.endswith(f"@{sha256(manifest())}\n")
    assert run("--platform", "linux/s390x", reference) == 3
    assert "it has linux/arm64" in capsys.readouterr().err


def publish_single(registry, configuration):
    """A single image with this configuration; gives its reference."""
    body = json.dumps(configuration).encode()
    descriptor = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(body), "size": len(body)}
    registry.publish(REPOSITORY, "single", manifest(config=descriptor))
    registry.serve(f"/v2/{REPOSITORY}/blobs/{sha256(body)}", body)
    return f"docker://{registry.host}/{REPOSITORY}:single"


def test_a_single_image_s_platform_stands_in_its_configuration(registry, capsys):
    reference = publish_single(registry, {"os": "linux", "architecture": "arm64"})
    assert run("--platform", "linux/arm64", reference) == 0
    assert run("--platform", "linux/amd64", reference) == 3
    assert "has no image for linux/amd64\n" in capsys.readouterr().err
    registry.clear()
    assert run(reference) == 0
    assert len(registry.requests) == 1  # the platform was not asked for


@pytest.mark.parametrize("configuration", [{}, [], {"os": 1, "architecture": None}, {"os": "linux/x"}])
def test_a_platform_that_nobody_says_is_not_taken_for_checked(registry, configuration, capsys):
    reference = publish_single(registry, configuration)
    assert run("--platform", "linux/arm64", reference) == 0
    assert "its platform is not known; not checked" in capsys.readouterr().err


def test_a_configuration_that_is_another_one_is_refused(registry, capsys):
    reference = publish_single(registry, {"os": "linux", "architecture": "arm64"})
    (path,) = registry._store.files
    for body in (b"{}", b"{" + b" " * 10_000 + b"}"):
        registry.serve(path, body)
        assert run("--platform", "linux/arm64", reference) == 3
    assert "not what its manifest says" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reference", "status"),
    [("docker://UPPER", 2), ("shub://a/b", 1), ("docker://127.0.0.1:1/x", 3), ("./absent.sif", 3), ("nope:x", 2)],
)
def test_the_exit_status_tells_mistakes_findings_and_outages_apart(registry, reference, status, capsys):
    assert run(reference) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.removeprefix("still asking registries\n").startswith("error: ")
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [(), ("--platform", "nonsense", "docker://x"), ("--unknown",)])
def test_wrong_use_is_told(registry, arguments):
    assert run(*arguments) == 2


def test_one_failure_hides_no_other_answer(reference, capsys):
    assert run("docker://BAD", reference + "0", reference) == 3
    out, err = capsys.readouterr()
    assert out.count("→") == 1
    assert err.count("error: ") == 2


def test_a_warning_goes_to_standard_error(registry, tmp_path, capsys):
    conf = tmp_path / ".config/containers/registries.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(f'[[registry]]\nprefix = "quay.io"\nlocation = "{registry.host}"\n', encoding="utf-8")
    assert run(f"docker://quay.io/{REPOSITORY}:1") == 0
    assert "warning: " in capsys.readouterr().err


def test_ctrl_c_stops_at_once_whatever_hangs(registry, reference):
    registry.answer("/v2/", Reply(hang=True))
    process = subprocess.Popen(
        [*COMMAND, "resolve", reference], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while not registry.requests:
        time.sleep(0.01)
    started = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert time.monotonic() - started < 1
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_reader_that_leaves_is_no_error(reference):
    result = subprocess.run(
        f"{sys.executable} -c 'from snakemake_apptainer_freshness.cli import main; main()' resolve {reference} | true",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in result.stderr


def test_starting_it_loads_neither_snakemake_nor_rich_nor_pydantic(reference):
    code = (
        "import sys\nfrom snakemake_apptainer_freshness.cli import run\n"
        f"assert run(['resolve', {reference!r}]) == 0\n"
        "assert not {'snakemake', 'rich', 'pydantic', 'jinja2', 'asyncio', 'yaml'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_help_names_the_command(capsys):
    assert cli.run(["--help"]) == 0
    assert "resolve" in capsys.readouterr().out


def test_a_terminal_shows_a_bar_and_the_answers_stay_clean(registry):
    registry.latency = 1.5
    texts = []
    for number in range(3):
        registry.publish(f"team/tool{number}", "1", manifest(number))
        texts.append(f"docker://{registry.host}/team/tool{number}:1")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, "resolve", *texts],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    out, _ = process.communicate(timeout=30)
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        shown = terminal.read(65536)
    assert b"asking registries" in shown
    assert out.count("→") == 3
    assert "\x1b" not in out
