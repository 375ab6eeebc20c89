"""Installing the private tools: where Debian is found, and when an installation counts."""

import json
import subprocess

import pytest

from tests.support import tools
from tests.support.tools import Archive

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

DEB822 = f"""\
Types: deb
URIs:
# snapshot of some day
 http://mirror.test/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: {KEYRING}

Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main
Signed-By: {KEYRING}
"""


def test_the_archive_is_read_from_deb822_sources():
    assert list(tools.parse_deb822(DEB822)) == [Archive("http://mirror.test/debian", KEYRING)]


def test_the_archive_is_read_from_one_line_sources():
    text = (
        "# deb http://old.test/debian bookworm main\n"
        f"deb [ arch=amd64 signed-by={KEYRING} ] http://mirror.test/debian bookworm main\n"
    )

    assert list(tools.parse_one_line(text)) == [Archive("http://mirror.test/debian", KEYRING)]


def test_an_entry_without_a_keyring_gets_debians_own(monkeypatch, tmp_path):
    monkeypatch.setattr(tools, "DEBIAN_KEYRING", tmp_path)

    (archive,) = tools.parse_one_line("deb http://mirror.test/debian bookworm main # comment")

    assert archive.signed_by == str(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "deb [signed-by=/usr/share/keyrings/vendor.gpg] https://vendor.test/debian bookworm main",
        "deb https://vendor.test/linux/debian bookworm stable",
        "deb https://vendor.test/apt sdk-bookworm main",
        "deb http://mirror.test/debian bookworm-security main",
        "deb-src http://mirror.test/debian bookworm main",
        "deb cdrom:[Debian-12]/ bookworm main",
        "deb file:/media/disc bookworm main",
    ],
)
def test_what_is_not_debians_main_archive_is_left_alone(line):
    assert list(tools.parse_one_line(line)) == []


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("Types: deb", "Types: deb-src"),
        ("Types: deb", "Enabled: no\nTypes: deb"),
        (KEYRING, "/usr/share/keyrings/vendor.gpg"),
        (f" {KEYRING}", "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc"),
    ],
)
def test_a_deb822_stanza_that_is_off_or_not_debians_is_left_alone(line, changed):
    assert list(tools.parse_deb822(DEB822.replace(line, changed))) == []


def test_sources_without_debian_are_an_error_that_says_what_is_needed(tmp_path):
    with pytest.raises(tools.ToolsError, match="component main"):
        tools.debian_archive(tmp_path)


def test_all_places_of_apts_sources_are_read(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(DEB822)
    (tmp_path / "sources.list.d/vendor.list").write_text("deb https://vendor.test/apt stable vendor\n")

    assert tools.debian_archive(tmp_path).uri == "http://mirror.test/debian"

    (tmp_path / "sources.list").write_text("deb http://first.test/debian bookworm main\n")

    assert tools.debian_archive(tmp_path).uri == "http://first.test/debian"


@pytest.fixture
def installed(tmp_path):
    (tmp_path / "bin").mkdir()
    for program in tools.PROGRAMS:
        (tmp_path / "bin" / program).touch()
    tools._write_stamp(tmp_path, {"apptainer": "1.4.5"})
    return tmp_path


def test_an_installation_counts_where_it_was_made(installed):
    assert tools.is_installed(installed)


def test_a_moved_installation_does_not_count(installed, tmp_path_factory):
    moved = installed.rename(tmp_path_factory.mktemp("elsewhere") / "tools")

    assert not tools.is_installed(moved)


def test_an_installation_of_another_recipe_does_not_count(installed):
    stamp = json.loads((installed / "stamp.json").read_text())
    (installed / "stamp.json").write_text(json.dumps(stamp | {"recipe": "older"}))

    assert not tools.is_installed(installed)


def test_an_installation_that_lacks_a_program_does_not_count(installed):
    (installed / "bin/oras").unlink()

    assert not tools.is_installed(installed)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_broken_stamp_does_not_count(installed, content):
    (installed / "stamp.json").write_text(content)

    assert not tools.is_installed(installed)


def test_an_interrupted_installation_is_cleared_away_by_the_next(installed, monkeypatch):
    (installed / "bin/oras").unlink()
    (installed / "partial/root").mkdir(parents=True)

    def interrupted(dest):
        assert list((dest / "partial").iterdir()) == []
        raise KeyboardInterrupt

    monkeypatch.setattr(tools, "_apt", interrupted)

    assert tools.main(["--dest", str(installed)]) == 130
    assert not (installed / "partial").exists()


def test_a_set_that_does_not_run_gets_no_stamp(installed, monkeypatch):
    (installed / "bin/oras").unlink()

    class NoApt:
        def fetch(self, *_):
            return []

    def arrange(root, _final):
        (root / "usr/bin").mkdir(parents=True)
        for program in tools.PROGRAMS:
            (root / "usr/bin" / program).write_text("#!/bin/sh\nexit 127\n")
            (root / "usr/bin" / program).chmod(0o755)

    monkeypatch.setattr(tools, "_apt", lambda _dest: NoApt())
    monkeypatch.setattr(tools, "_arrange", arrange)

    assert tools.main(["--dest", str(installed)]) == 1
    assert not (installed / "stamp.json").exists()


def test_a_second_installer_waits_for_the_first(installed):
    with tools._locked(installed):
        holder = ["flock", "--nonblock", str(installed / "lock"), "true"]
        assert subprocess.run(holder, check=False).returncode == 1
    assert subprocess.run(holder, check=False).returncode == 0


def test_a_failed_step_says_what_failed_and_what_the_program_said(capsys, tmp_path, monkeypatch):
    def failing(_dest):
        return tools._run(["sh", "-c", "echo no route to mirror >&2; exit 100"], "reading the lists")

    monkeypatch.setattr(tools, "_apt", failing)

    assert tools.main(["--dest", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "failed at reading the lists" in told
    assert "no route to mirror" in told
