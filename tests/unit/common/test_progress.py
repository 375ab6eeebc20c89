"""What a person sees while something takes its time."""

from __future__ import annotations

import io
import subprocess
import threading

import pytest

from snakemake_apptainer_freshness.common.progress import ProgressBars
from tests.support.fake_apptainer import python


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")


def story(bars: ProgressBars) -> None:
    with bars:
        bars.begin("asking registries", 2)
        bars.advance("asking registries")
        bars.begin("docker://quay.io/team/tool:1.0 [x]\x1b]0;owned\x07")
        bars._drawn and bars._drawn.refresh()
        bars.end("docker://quay.io/team/tool:1.0 [x]\x1b]0;owned\x07")
        bars.advance("nobody began this")
        bars.end("nobody began this")


def test_on_a_terminal_each_thing_has_a_bar():
    stream = Terminal()
    story(ProgressBars(stream=stream))
    said = stream.getvalue()
    assert "asking registries" in said
    assert "docker://quay.io/team/tool:1.0 [x]" in said
    assert "━" in said
    assert "owned\x07" not in said


@pytest.mark.parametrize(("stream", "enabled"), [(io.StringIO(), True), (Terminal(), False)])
def test_where_nobody_watches_nothing_is_drawn(stream, enabled):
    story(ProgressBars(stream=stream, enabled=enabled))
    assert stream.getvalue() == ""


def test_bars_may_be_told_from_any_thread():
    with ProgressBars(stream=Terminal()) as bars:
        threads = [threading.Thread(target=lambda n=n: (bars.begin(str(n)), bars.end(str(n)))) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert bars._tasks == {}


def test_a_bar_may_advance_by_many_steps_at_once():
    with ProgressBars(stream=Terminal()) as bars:
        bars.begin("loading", 1000)
        bars.advance("loading", 999)
        bars.advance("loading")
        assert bars._drawn.tasks[0].completed == 1000


def test_rich_is_loaded_for_a_terminal_alone():
    code = (
        "import io, sys; from snakemake_apptainer_freshness.common.progress import ProgressBars\n"
        "with ProgressBars(stream=io.StringIO()) as bars: bars.begin('x')\n"
        "sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run(python(code), check=False).returncode == 0
