"""Real container tools for the tests, in a private folder: nothing is installed into the system.

The tests run against the programs that users run: Apptainer, Docker's registry, crane, oras, the squashfs
tools, a browser. Debian's unstable suite has all of them, so they come from there as one consistent set with
the libraries it was built for, libc included. The same set then runs on every Debian from 12 on.

Rules:

* Only Python's standard library, so that a bare system interpreter can run this file.
* apt fetches and checks the signatures, with lists, cache and package status of its own; root is not needed.
  The address of the Debian archive and its keyring are read from the system's own apt sources: no address
  stands here.
* Programs are pointed at the private loader and libraries by absolute path, so an installation belongs to the
  folder that it was made in. The stamp says which; a copied or moved checkout installs again.
* A new set is built beside the old one and renamed into place, between the old stamp's removal and the
  writing of the new one: whatever interrupts an installation, the next call starts over. One installer works
  at a time.

``--bootstrap-pip VENV`` is for a Debian without ``ensurepip``: it puts pip into a virtual environment that
was made with ``python3 -m venv --without-pip``, out of the pip wheel that Debian carries.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import html
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

DEFAULT_DEST = Path(__file__).resolve().parents[2] / ".tools"
APT_SOURCES = Path("/etc/apt")
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

SUITE = "unstable"
ARCHITECTURES = ("amd64", "arm64")
PACKAGES = (
    "apptainer",
    "bash-static",
    "busybox-static",
    "chromium-headless-shell",
    "crane",
    "docker-registry",
    "fonts-liberation",
    "munge",
    "openssl",
    "oras",
    "patchelf",
    "rsync",
    "slurm-client",
    "slurmctld",
    "slurmd",
    "squashfs-tools",
    "squashfuse",
)
PIP_PACKAGE = "python3-pip-whl"

ASSUMED_PRESENT = (
    "adduser",
    "ca-certificates",
    "containernetworking-plugins",
    "debconf",
    "init-system-helpers",
    "lsb-base",
    "systemd",
    "ucf",
    "uidmap",
    "x11-utils",
    "xdg-utils",
)
"""Dependencies of no use to a private copy (``uidmap`` only works setuid, the browser has no desktop): apt takes them
as installed.
"""

PROGRAMS = {
    "apptainer": ("version",),
    "bash-static": ("--version",),
    "busybox": ("--help",),
    "chromium-headless-shell": ("--version",),
    "crane": ("version",),
    "docker-registry": ("--version",),
    "mksquashfs": ("-version",),
    "munged": ("--version",),
    "openssl": ("version",),
    "oras": ("version",),
    "rsync": ("--version",),
    "sacct": ("--version",),
    "sacctmgr": ("--version",),
    "sbatch": ("--version",),
    "scancel": ("--version",),
    "scontrol": ("--version",),
    "sinfo": ("--version",),
    "sshare": ("--version",),
    "slurmctld-wlm": ("-V",),
    "slurmd-wlm": ("-V",),
    "squeue": ("--version",),
    "squashfuse": ("--help",),
    "squashfuse_ll": ("--help",),
    "srun": ("--version",),
    "unsquashfs": ("-version",),
}
"""What ends up in ``bin/``, and the arguments with which each is started once to prove that it runs."""

APPTAINER_HELPERS = ("mksquashfs", "squashfuse", "squashfuse_ll", "unsquashfs")
"""Apptainer searches its internal ``bin`` folder first, so these are found whatever PATH says."""

BROWSER = "usr/lib/chromium/chromium-headless-shell"
BROWSER_START = """\
#!/bin/sh
export FONTCONFIG_FILE={root}/etc/fonts/private.conf
exec {root}/{program} "$@"
"""
FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir>{root}/usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
</fontconfig>
"""
"""Pages look the same on every machine: the browser sees the private fonts, and no other."""

APT_TIMEOUT = 600.0  # seconds, for one apt call on a slow connection
LOADER_FAILURE = 127  # exit status of a program whose loader or libraries are missing


class ToolsError(Exception):
    """An installation step that failed: what was done, and what a person can do next."""


@dataclass(frozen=True)
class Archive:
    """A Debian archive as the system's own apt sources name it."""

    uri: str
    signed_by: str


# --- Where Debian is, according to this system --------------------------------------------------------------


def debian_archive(folder: Path = APT_SOURCES) -> Archive:
    """The first Debian archive in apt's sources under ``folder``; without one, :class:`ToolsError`."""
    for path in _source_files(folder):
        text = path.read_text(encoding="utf-8", errors="replace")
        parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
        for archive in parse(text):
            return archive
    raise ToolsError(
        f"found no Debian archive in the apt sources under {folder}. The tools are fetched on a Debian (12 "
        "or newer) whose sources name a mirror of the component main."
    )


def parse_deb822(text: str) -> Iterator[Archive]:
    """Debian archives in the text of a ``.sources`` file."""
    text = re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)
    for stanza in re.split(r"\n\s*\n", text):
        unfolded = re.sub(r"\n[ \t]+", " ", stanza)
        fields = {key.lower(): value.strip() for key, value in re.findall(r"^([\w-]+):(.*)$", unfolded, re.MULTILINE)}
        enabled = fields.get("enabled", "yes").lower() not in ("no", "false", "0")
        if not enabled or "deb" not in fields.get("types", "").split():
            continue
        components = fields.get("components", "").split()
        for uri, suite in itertools.product(fields.get("uris", "").split(), fields.get("suites", "").split()):
            yield from _if_debian(uri, suite, components, fields.get("signed-by", ""))


def parse_one_line(text: str) -> Iterator[Archive]:
    """Debian archives in the text of a ``sources.list``."""
    line = re.compile(r"^\s*deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>[^#\n]*)")
    for match in filter(None, map(line.match, text.splitlines())):
        options = dict(re.findall(r"([\w-]+)=(\S+)", match["options"] or ""))
        yield from _if_debian(match["uri"], match["suite"], match["components"].split(), options.get("signed-by", ""))


def _source_files(folder: Path) -> list[Path]:
    parts = folder / "sources.list.d"
    return [
        path
        for path in (folder / "sources.list", *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources")))
        if path.is_file()
    ]


def _if_debian(uri: str, suite: str, components: Sequence[str], signed_by: str) -> Iterator[Archive]:
    """The archive if it is Debian's main one; ``bookworm-security`` and its like live elsewhere.

    Other vendors also use Debian's suite names; what tells Debian apart is its keyring.
    """
    main_suite = re.fullmatch(r"[a-z]+", suite) is not None
    remote = not uri.startswith(("cdrom:", "file:"))
    own_keyring = str(DEBIAN_KEYRING) if DEBIAN_KEYRING.exists() else ""
    keyring = ",".join(re.split(r"[\s,]+", signed_by)) or own_keyring
    if main_suite and remote and "main" in components and (not signed_by or "debian-archive" in signed_by):
        yield Archive(uri.rstrip("/"), keyring)


# --- Fetching packages --------------------------------------------------------------------------------------


class Apt:
    """apt with everything it reads or writes inside one folder."""

    def __init__(self, folder: Path, archive: Archive) -> None:
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise ToolsError("apt-get and dpkg-deb were not found: the tools are fetched from Debian, by its own apt.")
        self.folder = folder.absolute()
        self.architecture = _run(["dpkg", "--print-architecture"], "asking dpkg for the architecture").strip()
        if self.architecture not in ARCHITECTURES:
            raise ToolsError(
                f"this machine is {self.architecture}; the tools exist for {' and '.join(ARCHITECTURES)}. "
                "Run the tests on one of these."
            )
        (self.folder / "lists/partial").mkdir(parents=True, exist_ok=True)
        trust = f" signed-by={archive.signed_by}" if archive.signed_by else ""
        (self.folder / "sources.list").write_text(
            f"deb [arch={self.architecture}{trust}] {archive.uri} {SUITE} main\n", encoding="utf-8"
        )
        (self.folder / "status").write_text("\n".join(map(self._installed, ASSUMED_PRESENT)), encoding="utf-8")

    def fetch(self, packages: Sequence[str], into: Path) -> list[Path]:
        """Download ``packages`` and what they depend on into the new folder ``into``; the ``.deb`` files."""
        (into / "partial").mkdir(parents=True)
        self._apt_get("update", what=f"reading the package lists of Debian {SUITE}")
        self._apt_get(
            "install",
            "--download-only",
            "--yes",
            "--no-install-recommends",
            f"-oDir::Cache::Archives={into}",
            *packages,
            what="downloading " + ", ".join(packages),
        )
        return sorted(into.glob("*.deb"))

    def _installed(self, package: str) -> str:
        return (
            f"Package: {package}\nStatus: install ok installed\nVersion: 999\n"
            f"Architecture: {self.architecture}\nMulti-Arch: foreign\n"
            "Maintainer: nobody\nDescription: assumed to be there\n"
        )

    def _apt_get(self, *arguments: str, what: str) -> str:
        options = {
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Update::Error-Mode": "any",  # without it apt calls an unreachable mirror a success
            "APT::Sandbox::User": "root",  # the download user may not be allowed into the checkout
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Debug::NoLocking": "true",  # we hold a lock of our own; apt's is the system's
            "Dir::Cache::PkgCache": "",
            "Dir::Cache::SrcPkgCache": "",
            "Dir::Etc::Preferences": "-",
            "Dir::Etc::PreferencesParts": "-",
            "Dir::Etc::SourceList": str(self.folder / "sources.list"),
            "Dir::Etc::SourceParts": "-",
            "Dir::State": str(self.folder),
            "Dir::State::Lists": str(self.folder / "lists"),
            "Dir::State::Status": str(self.folder / "status"),
        }
        flags = [f"-o{key}={value}" for key, value in options.items()]
        try:
            return _run(["apt-get", "-qq", *flags, *arguments], what)
        except ToolsError as error:
            raise ToolsError(f"{error}\nCheck the network and apt's proxy settings, then call again.") from None


# --- Making an installation ---------------------------------------------------------------------------------


def install(dest: Path) -> None:
    """Bring ``dest`` up to date; returns at once where it is."""
    if is_installed(dest):
        return
    with _locked(dest):
        if is_installed(dest):
            return
        started = time.monotonic()
        _say(f"installing the test tools into {dest}")
        with _scratch(dest) as scratch:
            versions = _unpack(_apt(dest).fetch(PACKAGES, scratch / "debs"), scratch / "root")
            _arrange(scratch / "root", dest / "root")
            _link_programs(scratch / "bin", scratch / "root")
            (dest / "stamp.json").unlink(missing_ok=True)
            for part in ("root", "bin"):
                shutil.rmtree(dest / part, ignore_errors=True)
                (scratch / part).rename(dest / part)
        _try_programs(dest / "bin")
        _write_stamp(dest, versions)
        seconds = time.monotonic() - started
        _say(f"apptainer {versions['apptainer']} and {len(PROGRAMS) - 1} more programs in {seconds:.0f} s")


def is_installed(dest: Path) -> bool:
    """Whether ``dest`` holds what this very file installs, and was made where it now is."""
    try:
        stamp = json.loads((dest / "stamp.json").read_bytes())
    except (OSError, ValueError):
        return False
    if not isinstance(stamp, dict) or stamp.get("location") != str(dest) or stamp.get("recipe") != _recipe():
        return False
    return all((dest / "bin" / program).exists() for program in PROGRAMS)


def bootstrap_pip(dest: Path, venv: Path) -> None:
    """Install pip into ``venv``, which has none, out of Debian's pip wheel."""
    python = venv / "bin/python"
    if not python.exists():
        raise ToolsError(f"{venv} is not a virtual environment: make it with python3 -m venv --without-pip first.")
    with _locked(dest), _scratch(dest) as scratch:
        _unpack(_apt(dest).fetch([PIP_PACKAGE], scratch / "debs"), scratch / "root")
        wheels = sorted((scratch / "root/usr/share/python-wheels").glob("pip-*.whl"))
        if not wheels:
            raise ToolsError(f"Debian's {PIP_PACKAGE} has no pip wheel any more: install python3-venv instead.")
        wheel = wheels[-1]
        _run(
            [str(python), f"{wheel}/pip", "install", "--quiet", "--no-index", str(wheel)],
            f"installing pip in {venv}",
        )


def _apt(dest: Path) -> Apt:
    return Apt(dest / "apt", debian_archive())


def _unpack(debs: Sequence[Path], root: Path) -> dict[str, str]:
    """Unpack ``debs`` over each other into ``root``; returns the packages' versions."""
    _say(f"unpacking {len(debs)} packages")
    versions = {}
    for deb in debs:
        name, version = _run(["dpkg-deb", "--show", "--showformat=${Package} ${Version}", str(deb)], "reading").split()
        _run(["dpkg-deb", "--extract", str(deb), str(root)], f"unpacking {deb.name}")
        versions[name] = version
    return versions


def _arrange(root: Path, final: Path) -> None:
    """Make the programs under ``root`` run from ``final``, where the folder is about to be renamed to."""
    _relocate(root, final)
    (apptainer,) = root.glob("usr/lib/*/apptainer")
    for helper in APPTAINER_HELPERS:
        (apptainer / "bin" / helper).symlink_to(final / "usr/bin" / helper)
    # Debian compiles Apptainer with prefix /usr and its data in /etc and /var. Apptainer replaces the prefix
    # by the one that it runs from, and then looks for the data in these places.
    for name in ("etc", "var"):
        (root / "usr" / name).symlink_to(Path("..") / name)
        (root / "usr/lib" / name).symlink_to(Path("..") / name)
    (root / "etc/fonts/private.conf").write_text(FONTS.format(root=html.escape(str(final))), encoding="utf-8")
    start = root / "usr/bin" / Path(BROWSER).name
    start.write_text(BROWSER_START.format(root=shlex.quote(str(final)), program=BROWSER), encoding="utf-8")


def _relocate(root: Path, final: Path) -> None:
    loader = next(root.glob("usr/lib/*/ld-linux-*.so.*"))
    libraries = loader.parent
    relocated = final / libraries.relative_to(root)
    patchelf = [str(loader), "--library-path", str(libraries), str(root / "usr/bin/patchelf")]
    set_loader = [
        "--set-interpreter",
        str(relocated / loader.name),
        "--force-rpath",
        "--set-rpath",
        f"{relocated}:{relocated}/pulseaudio:{relocated}/slurm-wlm",
    ]
    for program in sorted(_dynamic_programs(root)):
        _run([*patchelf, *set_loader, str(program)], f"pointing {program.name} at the private libraries")
    for library in (*libraries.glob("libpulse.so.*.*"), libraries / "slurm-wlm/libslurmfull.so"):
        # they name the folder of their own helpers by absolute path
        _run([*patchelf, *set_loader[2:], str(library)], f"pointing {library.name} at the private libraries")


def _dynamic_programs(root: Path) -> Iterator[Path]:
    """Programs that ask for a loader, patchelf itself left out."""
    for path in (*root.glob("usr/*bin/*"), *root.glob("usr/lib/*/apptainer/bin/*"), root / BROWSER):
        if path.is_symlink() or not path.is_file() or path.name == "patchelf":
            continue
        with path.open("rb") as file:
            start = file.read(4096)
        if start.startswith(b"\x7fELF") and b"/ld-linux-" in start:
            yield path


def _link_programs(folder: Path, root: Path) -> None:
    folder.mkdir()
    for program in PROGRAMS:
        place = "bin" if (root / "usr/bin" / program).exists() else "sbin"
        (folder / program).symlink_to(f"../root/usr/{place}/{program}")


def _try_programs(folder: Path) -> None:
    for program, arguments in PROGRAMS.items():
        command = [str(folder / program), *arguments]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except OSError as error:
            raise ToolsError(f"{program} was installed but does not start: {error}. Remove {folder.parent}.") from error
        if result.returncode == LOADER_FAILURE or result.returncode < 0:
            raise ToolsError(f"{program} was installed but does not run (status {result.returncode}):\n{result.stderr}")


def _write_stamp(dest: Path, versions: dict[str, str]) -> None:
    stamp = {"location": str(dest), "recipe": _recipe(), "packages": versions}
    partial = dest / "stamp.json.partial"
    partial.write_text(json.dumps(stamp, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(dest / "stamp.json")


def _recipe() -> str:
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


@contextlib.contextmanager
def _locked(dest: Path) -> Iterator[None]:
    """Hold ``dest`` for one installer; the kernel lets go of it however this process ends."""
    try:
        dest.mkdir(parents=True, exist_ok=True)
        lock = (dest / "lock").open("a")
    except OSError as error:
        raise ToolsError(f"cannot write to {dest} ({error}): use a checkout that you own, or --dest.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another installation is running: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _scratch(dest: Path) -> Iterator[Path]:
    """A new folder in ``dest``, removed afterwards; what an interrupted call left there goes first."""
    scratch = dest / "partial"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run(command: Sequence[str], what: str) -> str:
    """Standard output of ``command``; where it fails, :class:`ToolsError` with its last words."""
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=APT_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolsError(f"failed at {what}: {error}") from error
    if result.returncode == 0:
        return result.stdout
    last_words = "\n".join(f"  {line}" for line in (result.stdout + result.stderr).strip().splitlines()[-12:])
    raise ToolsError(f"failed at {what} ({command[0]} ended with status {result.returncode}):\n{last_words}")


def _say(text: str) -> None:
    print(f"tools: {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dest", type=Path, default=DEFAULT_DEST, help="where to install (default: %(default)s)")
    parser.add_argument("--bootstrap-pip", type=Path, metavar="VENV", help="only put pip into this environment")
    options = parser.parse_args(arguments)
    dest = options.dest.resolve()
    try:
        if options.bootstrap_pip is not None:
            bootstrap_pip(dest, options.bootstrap_pip.absolute())
        else:
            install(dest)
    except ToolsError as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted; the next call starts over")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
