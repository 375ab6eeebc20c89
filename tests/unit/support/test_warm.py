"""A forked Python is like one that was started: what it reads, prints, and how it ends."""

import importlib.util
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support import warm, warm_start

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}


def both(tmp_path, *program, **more):
    """What a started and a forked Python say of `program`."""
    env = ENVIRONMENT | more
    command = [sys.executable, *program]
    started = subprocess.run(
        command, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return started, warm.run(command, cwd=tmp_path, env=env, timeout=30)


def ends_soon(status):
    """Return whether the process that `status` of /proc tells of is gone, or a zombie, before it ends by itself."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if status.read_text().split()[2] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(
    "program",
    [
        "import sys; print(sys.argv, sys.path[:2], sys.stdin.read()); print('also', file=sys.stderr)",
        "import os; print(sorted(os.environ.items()), os.getcwd(), os.get_inheritable(1), os.isatty(1))",
        "import signal; print([signal.getsignal(one) for one in sorted(signal.valid_signals())])",
        "import sys; print(sys.stdout, sys.stdout.line_buffering, sys.stdout.write_through, sys.flags)",
        "import __main__; x = 1; print(__name__, __main__.x)",
        "import os; print(sorted(int(one) for one in os.listdir('/proc/self/fd')))",
        "raise SystemExit(7)",
        "raise SystemExit('wrong use')",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "import atexit; atexit.register(print, 'at the end')",
        "import os; os.write(1, b'x' * 1_000_000); os.write(2, b'y' * 1_000_000)",
    ],
)
def test_it_is_like_a_started_one(tmp_path, program):
    started, forked = both(tmp_path, "-c", program, "one", "two")

    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)


def test_an_error_that_is_caught_by_nothing_ends_it(tmp_path):
    started, forked = both(tmp_path, "-c", "1 / 0")

    assert forked.returncode == started.returncode == 1
    assert forked.stderr.splitlines()[-1] == started.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_a_module_is_found_in_the_working_directory_first(tmp_path):
    (tmp_path / "yaml_of_mine.py").write_text("import sys; print(__name__, sys.argv, sys.path[0])")
    started, forked = both(tmp_path, "-m", "yaml_of_mine", "one")

    assert forked.stdout == started.stdout


def test_another_variable_that_python_reads_at_its_start_counts(tmp_path):
    started, forked = both(tmp_path, "-c", "import sys; print(sys.flags)", PYTHONNODEBUGRANGES="1", PYTHONHASHSEED="3")

    assert forked.stdout == started.stdout


def test_several_run_at_once(tmp_path):
    program = "import sys, time, pathlib; pathlib.Path(sys.argv[1]).touch()\n"
    program += "while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)"

    def begin(*names):
        return warm.run([sys.executable, "-c", program, *names], cwd=tmp_path, env=ENVIRONMENT, timeout=30)

    other = threading.Thread(target=begin, args=("a", "b"))
    other.start()
    assert begin("b", "a").returncode == 0
    other.join()


def test_one_that_lasts_too_long_is_killed(tmp_path):
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with pytest.raises(subprocess.TimeoutExpired) as stopped:
        warm.run([sys.executable, "-c", program], cwd=tmp_path, env=ENVIRONMENT, timeout=5)

    assert ends_soon(Path(f"/proc/{int(stopped.value.stdout)}/stat"))


def test_one_that_is_waited_for_no_more_is_killed(tmp_path, monkeypatch):
    program = "import time; time.sleep(60)"
    begun = []

    def interrupted(selector, said, timeout):
        [(key, _), *_] = selector.select()
        said["status"] = os.read(key.fd, 100)
        begun.append(Path(f"/proc/{int(said['status'])}/stat"))
        raise KeyboardInterrupt

    monkeypatch.setattr(warm, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        warm.run([sys.executable, "-c", program], cwd=tmp_path, env=ENVIRONMENT, timeout=60)

    [status] = begun
    assert ends_soon(status)


def test_nothing_of_snakemake_or_of_this_project_is_loaded_before(tmp_path):
    program = "import sys; print([one for one in sys.modules if one.startswith('snakemake')], 'pandas' in sys.modules)"

    assert both(tmp_path, "-c", program)[1].stdout == "[] True\n"


def test_it_loads_what_is_there():
    assert [name for name in warm_start.LIBRARIES if importlib.util.find_spec(name) is None] == []
