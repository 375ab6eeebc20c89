"""Apptainer, the program: found, asked, stopped."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.apptainer import program
from snakemake_apptainer_freshness.apptainer.failures import AttemptFailed
from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.settings import DISK
from tests.support.fake_apptainer import COPY, FakeApptainer
from tests.support.pins import pin


@pytest.fixture
def fake(tmp_path):
    return FakeApptainer(tmp_path / "fake")


def attempt(fake, destination, stop=None, downloaded=lambda: None):
    return Apptainer.find(fake.environment).pull(
        pin().url, destination, use_cache=True, stop=stop or threading.Event(), downloaded=downloaded
    )


def gone(process: int) -> bool:
    """Whether the process has ended; what is left of one whose parent has not asked yet counts as ended."""
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or " Z " in status.read_text()


@pytest.mark.parametrize(
    ("said", "keeps_manifests"),
    [
        ("apptainer version 1.4.5", True),
        ("apptainer version 1.3.6-1.el9", False),
        ("apptainer version 2.0.0-rc.1", True),
        ("singularity-ce version 4.3.0", False),
    ],
)
def test_whether_a_cache_keeps_manifests_goes_by_program_and_version(tmp_path, said, keeps_manifests):
    found = Apptainer.find(FakeApptainer(tmp_path / "fake", version=said).environment)
    assert found.keeps_manifests is keeps_manifests


@pytest.mark.parametrize(
    ("said", "is_reproducible"),
    [
        ("apptainer version 1.4.5", False),
        ("apptainer version 1.5.0", True),
        ("apptainer version 1.6.0-rc.1", True),
        ("singularity-ce version 4.3.0", False),
    ],
)
def test_a_program_that_can_write_the_same_file_each_time_is_told_to(tmp_path, said, is_reproducible):
    name = said.partition(" ")[0].removesuffix("-ce")
    fake = FakeApptainer(tmp_path / "fake", version=said, name=name)
    fake.serve(pin())
    fake.behave(f'{COPY}\necho "$APPTAINER_REPRODUCIBLE,$SOURCE_DATE_EPOCH" > {tmp_path}/told')
    fake.environment |= {"SOURCE_DATE_EPOCH": "1"}
    assert Apptainer.find(fake.environment).is_reproducible is is_reproducible
    attempt(fake, tmp_path / "image")
    assert (tmp_path / "told").read_text() == ("true,\n" if is_reproducible else ",1\n")


def test_a_person_can_wish_otherwise(tmp_path):
    fake = FakeApptainer(tmp_path / "fake", version="apptainer version 1.5.3")
    fake.serve(pin())
    fake.behave(f'{COPY}\necho "$APPTAINER_REPRODUCIBLE,$SOURCE_DATE_EPOCH" > {tmp_path}/told')
    fake.environment |= {"SOURCE_DATE_EPOCH": "1", "APPTAINER_REPRODUCIBLE": "false"}
    attempt(fake, tmp_path / "image")
    assert (tmp_path / "told").read_text() == "false,1\n"


def test_an_image_that_cannot_be_written_so_is_pulled_all_the_same(tmp_path):
    """What mksquashfs says of an image that has no time of its creation."""
    fake = FakeApptainer(tmp_path / "fake", version="apptainer version 1.5.3")
    content = fake.serve(pin())
    failing = 'echo "mksquashfs command failed: exit status 1: Env Var SOURCE_DATE_EPOCH has invalid time value"'
    fake.behave(f'if [ "$APPTAINER_REPRODUCIBLE" ]; then echo half > "$destination"; {failing}; exit 255; fi\n{COPY}')
    attempt(fake, tmp_path / "image")
    assert (tmp_path / "image").read_bytes() == content
    assert fake.pulls == [pin().url] * 2


def test_another_failure_is_not_tried_in_another_way(tmp_path):
    fake = FakeApptainer(tmp_path / "fake", version="apptainer version 1.5.3")
    fake.behave("echo no space left on device; exit 255")
    with pytest.raises(AttemptFailed, match="the disk is full"):
        attempt(fake, tmp_path / "image")
    assert fake.pulls == [pin().url]


def test_a_pull_makes_the_file(fake, tmp_path):
    content = fake.serve(pin())
    assert attempt(fake, tmp_path / "image") is False
    assert (tmp_path / "image").read_bytes() == content


def test_a_reused_image_is_noticed_whatever_the_user_silenced(fake, tmp_path):
    fake.environment["APPTAINER_QUIET"] = "1"
    fake.behave('[ -n "$APPTAINER_QUIET" ] || echo "INFO:    Using cached SIF image" >&2')
    assert attempt(fake, tmp_path / "image") is True


@pytest.mark.parametrize("name", ["PULLDIR", "PULLFOLDER", "SANDBOX"])
@pytest.mark.parametrize("family", ["APPTAINER", "SINGULARITY"])
def test_it_pulls_a_file_to_where_it_is_told_whatever_a_person_has_set_for_pulls_of_their_own(
    fake, tmp_path, family, name
):
    fake.environment[f"{family}_{name}"] = "/elsewhere"
    content = fake.serve(pin())
    fake.behave(f'[ -n "${family}_{name}" ] || cp "$image" "$destination"')
    attempt(fake, tmp_path / "image")
    assert (tmp_path / "image").read_bytes() == content


@pytest.mark.parametrize(
    "line", ["Extracting OCI image...", "Inserting Singularity configuration...", "Creating SIF file..."]
)
def test_the_end_of_the_download_is_told_once_as_soon_as_it_is_seen(fake, tmp_path, line):
    fake.behave(
        f"echo 'INFO:    Fetching OCI image...' >&2; sleep 0.1; echo 'INFO:    {line}' >&2;"
        f"until [ -e {tmp_path}/told ]; do sleep 0.01; done; echo 'INFO:    Creating SIF file...' >&2"
    )
    told = []
    attempt(fake, tmp_path / "image", downloaded=lambda: (told.append(line), (tmp_path / "told").touch()))
    assert told == [line]


def test_only_the_end_of_a_long_output_is_kept(fake, tmp_path):
    fake.behave("yes 'a long line' | head -c 3000000; echo the end; exit 1")
    with pytest.raises(AttemptFailed) as caught:
        attempt(fake, tmp_path / "image")
    assert "the end" in caught.value.message
    assert len(caught.value.message) < 1000


def test_a_program_that_hangs_is_ended_with_all_that_it_started(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "DISK", DISK._replace(pull_timeout=0.5, grace=0.2))
    fake.behave(f"trap '' TERM; sleep 300 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/parent; wait; sleep 300")
    started = time.monotonic()
    with pytest.raises(AttemptFailed, match="did not end in") as caught:
        attempt(fake, tmp_path / "image")
    assert time.monotonic() - started < 10
    assert caught.value.final
    assert gone(int((tmp_path / "child").read_text()))
    assert gone(int((tmp_path / "parent").read_text()))


def test_a_program_that_closes_its_output_is_still_watched(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "DISK", DISK._replace(pull_timeout=0.5, grace=0.2))
    fake.behave("exec >&- 2>&-; sleep 300")
    with pytest.raises(AttemptFailed, match="did not end in"):
        attempt(fake, tmp_path / "image")


def test_a_grandchild_that_keeps_the_output_open_is_not_waited_for(fake, tmp_path):
    fake.serve(pin())
    fake.behave('cp "$image" "$destination"; sleep 5 &')
    started = time.monotonic()
    attempt(fake, tmp_path / "image")
    assert time.monotonic() - started < 3


def test_nothing_of_an_ended_program_stays_beside_the_image(fake, tmp_path):
    """Apptainer 1.4.5 leaves the temporary copy that it writes beside the image, where it is ended meanwhile."""
    stop = threading.Event()
    fake.behave(f'echo half > "$(dirname "$destination")/tmp-copy-812401478"; touch {tmp_path}/copying; exec sleep 300')
    (tmp_path / "images").mkdir()
    watch = threading.Thread(target=lambda: (_wait_for(tmp_path / "copying"), stop.set()))
    watch.start()
    with pytest.raises(InterruptedError):
        attempt(fake, tmp_path / "images/image", stop)
    watch.join()
    assert list((tmp_path / "images").iterdir()) == []


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def test_a_stop_ends_the_program(fake, tmp_path):
    stop = threading.Event()
    fake.behave(f"echo $$ > {tmp_path}/process; exec sleep 300")
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(InterruptedError):
        attempt(fake, tmp_path / "image", stop)
    assert gone(int((tmp_path / "process").read_text()))


@pytest.mark.parametrize("ending", ["exit 0", "exit 1", "kill -9 $$"])
def test_its_temporary_folder_is_removed_however_it_ends(fake, tmp_path, ending):
    fake.serve(pin())
    fake.behave(
        f'cp "$image" "$destination"; locked="$APPTAINER_TMPDIR/rootfs/locked";'
        'mkdir -p "$locked/x"; chmod 0 "$locked";'
        f"{ending}"
    )
    try:
        attempt(fake, tmp_path / "image")
    except AttemptFailed:
        assert ending != "exit 0"
    assert list(fake.temporary.iterdir()) == []


def test_a_temporary_folder_that_cannot_be_made_is_said(fake, tmp_path):
    fake.environment["APPTAINER_TMPDIR"] = str(tmp_path / "none")
    with pytest.raises(AttemptFailed, match="temporary folder") as caught:
        attempt(fake, tmp_path / "image")
    assert "APPTAINER_TMPDIR" in caught.value.hint
