"""What a person sees while something takes its time: on a real terminal device, and where there is none."""

import fcntl
import io
import os
import pty
import re
import struct
import termios
import threading
import time

import pyte
import pytest

from snakemake_apptainer_freshness.common import progress
from snakemake_apptainer_freshness.common.progress import Amount, ProgressBars

TAKE = "\x1b7\x1b[1;23r\x1b8"
GIVE_BACK = "\x1b7\x1b[r\x1b[24;1H\x1b[2K\x1b8"
DRAWN = re.compile(r"\x1b7\x1b\[24;1H\x1b\[2K([^\x1b]*)\x1b8")


class Terminal:
    """A terminal of 24 rows; `stream` is what a program writes to."""

    def __init__(self, columns):
        self._screen, device = pty.openpty()
        fcntl.ioctl(device, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream = os.fdopen(device, "w")

    def everything(self):
        """All that was written."""
        self.stream.close()
        written = b""
        try:
            while piece := os.read(self._screen, 65536):
                written += piece
        except OSError:
            pass
        os.close(self._screen)
        return written.decode()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "_SHOW_AFTER", 0)
    monkeypatch.setattr(progress, "_PERIOD", 0.01)


def until(condition):
    """Wait for what another thread does."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def story(bars):
    with bars:
        bars.begin("asking registries", 2)
        bars.advance("asking registries")
        bars.begin("docker://quay.io/team/tool:1.0 \x1b]0;owned\x07")
        time.sleep(0.1)
        bars.end("docker://quay.io/team/tool:1.0 \x1b]0;owned\x07")
        bars.advance("nobody began this")
        bars.end("nobody began this")


def test_a_terminal_gives_its_last_line_and_has_it_back():
    terminal = Terminal(120)
    story(ProgressBars(stream=terminal.stream))
    written = terminal.everything()

    assert written.count(TAKE) == 1
    assert written.endswith(GIVE_BACK)
    assert "asking registries: [########--------] 1 of 2, 0:00  tool:1.0 " in written
    assert "owned\x07" not in written


def test_what_is_printed_meanwhile_scrolls_above_and_is_not_touched():
    terminal = Terminal(120)
    with ProgressBars(stream=terminal.stream) as bars:
        bars.begin("fetching", measure=lambda: Amount(1024, 4096))
        for number in range(20):
            os.write(terminal.stream.fileno(), f"a line of somebody else {number}\n".encode())
            time.sleep(0.01)
    rest = DRAWN.sub("", terminal.everything())

    for sequence in ("\x1bD\x1b[A" + TAKE, GIVE_BACK):
        assert rest.count(sequence) == 1
        rest = rest.replace(sequence, "")
    assert rest.split() == "".join(f"a line of somebody else {number} " for number in range(20)).split()


def test_a_line_that_is_half_printed_when_the_last_line_is_taken_stays_whole():
    terminal = Terminal(80)
    bars = ProgressBars(stream=terminal.stream)
    terminal.stream.write("half a line")
    terminal.stream.flush()
    with bars:
        bars.begin("waiting")
        until(lambda: bars._line._size is not None)
        terminal.stream.write(" and its other half\n")
        terminal.stream.flush()
    screen = pyte.Screen(80, 24)
    pyte.Stream(screen).feed(terminal.everything())
    assert [line.rstrip() for line in screen.display if line.strip()] == ["half a line and its other half"]


def test_no_line_is_wider_than_the_terminal():
    terminal = Terminal(30)
    story(ProgressBars(stream=terminal.stream))

    assert all(len(line) < 30 for line in DRAWN.findall(terminal.everything()))


def test_bytes_have_a_size_a_total_and_a_speed():
    amounts = iter(range(10**6))
    bars = ProgressBars(stream=io.StringIO())
    bars.begin("fetching", measure=lambda: Amount(next(amounts) * 1024**2, 400 * 1024**2))
    bars.text()
    time.sleep(0.01)

    assert re.fullmatch(r"fetching: \[-{16}\] 1\.0 MiB of 400\.0 MiB, [\d.]+ [KMG]iB/s, 0:00", bars.text()), bars.text()


def test_a_total_that_is_not_known_is_not_shown():
    bars = ProgressBars(stream=io.StringIO())
    bars.begin("fetching", measure=lambda: Amount(2048))

    assert bars.text() == "fetching: 2.0 KiB, 0:00"


def test_where_no_line_can_be_drawn_it_is_said_once_after_a_second(monkeypatch):
    monkeypatch.setattr(progress, "SAY_AFTER", 0.02)
    said = []
    with ProgressBars(stream=io.StringIO(), say=said.append) as bars:
        bars.begin("asking registries")
        until(lambda: said)
        time.sleep(0.1)

    assert said == ["still asking registries"]


def test_by_default_it_is_said_on_the_stream(monkeypatch):
    monkeypatch.setattr(progress, "SAY_AFTER", 0.02)
    stream = io.StringIO()
    with ProgressBars(stream=stream) as bars:
        bars.begin("asking registries")
        until(stream.getvalue)

    assert stream.getvalue() == "still asking registries\n"


def test_what_is_over_within_a_second_is_not_said():
    stream = io.StringIO()
    story(ProgressBars(stream=stream))
    assert stream.getvalue() == ""


def test_where_it_is_not_wanted_nothing_is_shown(monkeypatch):
    monkeypatch.setattr(progress, "SAY_AFTER", 0)
    for stream in (io.StringIO(), (terminal := Terminal(80)).stream):
        story(ProgressBars(stream=stream, enabled=False))
    assert terminal.everything() == ""


def test_a_dumb_terminal_is_not_divided(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal(80)
    story(ProgressBars(stream=terminal.stream))
    assert terminal.everything() == ""


def test_bars_may_be_told_from_any_thread():
    terminal = Terminal(80)
    with ProgressBars(stream=terminal.stream) as bars:
        threads = [threading.Thread(target=lambda n=n: (bars.begin(str(n)), bars.end(str(n)))) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert bars.text() == ""
    assert "fetching" not in terminal.everything()
