"""Our software deployment plugin under the newest tests of its interface, with the real Apptainer and registry."""

import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.support import images, programs, snakemakes
from tests.support.snakemakes import DEPLOYMENT

CHECKS = Path(__file__).with_name("deployment_interface.py")
OF_INTERFACE = {
    "test_contains_executable": "passed",
    "test_envspec_str": "passed",
    "test_default_settings": "passed",
    "test_shellcmd": "skipped",  # the interface's own: a deployable environment is tried by test_deploy
    "test_deploy": "passed",
    "test_cache": "skipped",  # the interface's own: nothing is cached apart from being deployed
    "test_pin": "passed",
    "test_report_software": "passed",
    "test_identity_attributes": "passed",
    "test_source_path_attributes": "passed",
}
OURS = sorted(
    line.removeprefix("def ").partition("(")[0]
    for line in CHECKS.read_text().splitlines()
    if line.startswith("def test")
)


@pytest.fixture(scope="module")
def outcomes(shared_registry, tmp_path_factory):
    """How each check ended, with what it said; those with parameters as one."""
    folder = tmp_path_factory.mktemp("deployment")
    python = snakemakes.python(DEPLOYMENT)
    digests = {
        name: images.push(images.tiny_image(f"the {name}"), shared_registry.host, f"deployment/{name}", "1.0")
        for name in ("tool", "other")
    }
    surroundings = programs.environment(folder / "home") | {
        "APPTAINER_NOHTTPS": "1",
        "TOOL": f"docker://{shared_registry.host}/deployment/tool:1.0",
        "OTHER": f"docker://{shared_registry.host}/deployment/other:1.0",
        "TOOL_DIGEST": digests["tool"],
    }
    surroundings |= snakemakes.variables(DEPLOYMENT, surroundings["PATH"])
    arguments = [
        "-q",
        "--noconftest",
        "-c",
        "/dev/null",
        "-p",
        "no:cacheprovider",
        f"--junitxml={folder / 'report.xml'}",
    ]
    ended = subprocess.run(
        [python, "-m", "pytest", *arguments, CHECKS],
        env=surroundings,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    found = {}
    for case in ET.parse(folder / "report.xml").iter("testcase"):
        states = [child for child in case if child.tag in ("failure", "error", "skipped")]
        said = "\n".join(child.text or "" for child in states)
        state = {"skipped": "skipped"}.get(states[0].tag, "failed") if states else "passed"
        name = case.get("name").partition("[")[0]
        if found.get(name, ("passed",))[0] != "failed":
            found[name] = state, said
    assert found, ended.stdout + ended.stderr
    return found


@pytest.mark.parametrize(("name", "expected"), OF_INTERFACE.items())
def test_what_the_interface_asks_of_every_plugin(outcomes, name, expected):
    state, said = outcomes[name]
    assert state == expected, said


@pytest.mark.parametrize("name", OURS)
def test_what_we_ask_of_it(outcomes, name):
    state, said = outcomes[name]
    assert state == "passed", said


def test_the_interface_asks_nothing_else(outcomes):
    assert outcomes.keys() == OF_INTERFACE.keys() | set(OURS)
