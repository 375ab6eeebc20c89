"""What is said to Apptainer and SingularityCE: each argument and variable is known to every version that is supported.

Read in the sources of Apptainer 1.0.0 to 1.5.3 and SingularityCE 3.8.0 to 4.5.0 (``cmd/internal/cli``: the flags, and
for which command each is registered). The programs were not run.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from snakemake.deployment import singularity as snakemakes

from snakemake_apptainer_freshness.apptainer import program, signers
from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.common import container_program
from snakemake_apptainer_freshness.engine import plugin_environment
from tests.support.fake_apptainer import FakeApptainer
from tests.support.pins import pin

OLDEST = {"apptainer": (1, 0), "singularity": (3, 8)}
LINES = [("apptainer", (1, minor)) for minor in range(6)] + [
    ("singularity", release) for release in [(3, 8), (3, 9), (3, 10), (3, 11), *((4, minor) for minor in range(6))]
]
SINCE = {
    "pull": {"--disable-cache": OLDEST, "--name": OLDEST},
    "verify": {"--all": OLDEST, "--local": OLDEST, "--json": OLDEST},
    "exec": {"--home": OLDEST, "--bind": OLDEST, "--pwd": OLDEST, "--quiet": OLDEST, "--silent": OLDEST},
}
"""Since when a command knows an argument. In 1.3 and 4.0 ``--pwd`` got a second name, ``--cwd``, and kept its own."""


def words(command: list[str], verb: str) -> set[str]:
    """The options of a command whose verb is `verb`."""
    assert verb in command
    return {word for word in command if word.startswith("--")}


@pytest.mark.parametrize(("family", "release"), LINES)
def test_a_pull_says_only_what_its_program_knows(tmp_path, monkeypatch, family, release):
    name = {"apptainer": "apptainer version ", "singularity": "singularity-ce version "}[family]
    fake = FakeApptainer(tmp_path / "fake", version=name + ".".join(map(str, release)) + ".0", name=family)
    fake.serve(pin())
    said, run = [], program._run

    def noted(arguments, given, **how):
        said.append((arguments, given))
        return run(arguments, given, **how)

    monkeypatch.setattr(program, "_run", noted)
    monkeypatch.setattr(
        container_program.shutil, "which", lambda wanted, **_: str(fake._program) if wanted == family else None
    )
    Apptainer.find(fake.environment).pull(
        pin().url, tmp_path / "image", use_cache=False, stop=threading.Event(), downloaded=lambda: None
    )

    [(arguments, given)] = said
    assert {SINCE["pull"][word][family] <= release for word in words(arguments, "pull")} == {True}
    assert f"{family.upper()}_TMPDIR" in given
    assert (program.REPRODUCIBLE in given) is ((family, release) == ("apptainer", (1, 5)))


def test_what_verifies_signatures_in_a_file_is_known_to_every_version(tmp_path, monkeypatch):
    said = []

    class Answer:
        returncode, stderr = 1, ""

    monkeypatch.setattr(signers.subprocess, "run", lambda command, **_: said.append(command) or Answer())
    found = Apptainer(program="apptainer", family="apptainer", version="", release=(1, 0), environment={})
    with pytest.raises(signers.NotSignedInside):
        signers.signers(found, tmp_path / "image")
    assert all(SINCE["verify"][word] == OLDEST for word in words(said[0], "verify"))


def test_what_starts_a_job_is_known_to_every_version(monkeypatch):
    monkeypatch.setattr(plugin_environment, "_program", lambda: "apptainer")
    ours = plugin_environment.command("sh", "true", image="image", arguments="", mounts=[Path("/tmp")], variables=[])
    theirs = snakemakes.shellcmd("image", "true", bind=[Path("/tmp")], quiet=True, container_workdir="/tmp")
    for command in (ours, theirs):
        options = words(command.split(), "exec")
        assert options
        assert all(SINCE["exec"][word] == OLDEST for word in options)


def test_what_snakemake_itself_says_of_a_pull_is_in_the_table():
    source = Path(snakemakes.__file__).read_text()
    pulled = re.search(r'"pull",(.*?)\]', source, re.DOTALL)
    assert pulled
    assert set(re.findall(r'"(--[a-z-]+)"', pulled[1])) <= set(SINCE["pull"])
