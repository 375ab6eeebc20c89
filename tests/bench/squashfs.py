"""What reading the file system of an image costs, beside making the same tree of what unsquashfs writes of it.

Two images: one of many small files, one of a few large ones. Whole processes are timed, in turn; of memory only ours is
told, since unsquashfs takes some of its own.
"""

import hashlib
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from snakemake_apptainer_freshness.apptainer import squashfs
from snakemake_apptainer_freshness.image.tree import FileType, Node
from tests.bench.timing import Command, in_turn, median, ratio, table
from tests.support import programs
from tests.support.squashfses import packed

ROUNDS = 3
REPOSITORY = Path(__file__).parents[2]
_ENTRY = re.compile(rb"(\S+) ([DR]) \d+ (\d+) (\d+) (\d+)(?: (\d+) \d+ \d+)?\n")
_DATA = b"# START OF DATA - DO NOT MODIFY\n"


def main() -> None:
    """Measure and print."""
    rows: list[tuple[str, ...]] = [("image", "ours", "unsquashfs 4.7, hashed", "wall", "CPU", "our memory")]
    with tempfile.TemporaryDirectory() as place:
        for name, small, large in (("many small files", 20_000, 0), ("few large files", 200, 8)):
            folder = Path(place) / name.replace(" ", "-")
            _fill(folder, small=small, large=large)
            rows.append(_measured(packed(folder), name))
    table("Reading the file system of an image (wanted: no more wall time, less than 100 MB)", rows)


def _measured(image: Path, name: str) -> tuple[str, ...]:
    def command(which: str) -> Command:
        return Command(
            arguments=[sys.executable, "-m", "tests.bench.squashfs", which, str(image)],
            folder=REPOSITORY,
            environment=programs.environment(),
        )

    ours, theirs = in_turn(command("ours").run, command("theirs").run, rounds=ROUNDS)
    return (
        f"{name}, {image.stat().st_size / 1e6:.0f} MB",
        f"{median(ours, 'wall'):.2f} s",
        f"{median(theirs, 'wall'):.2f} s",
        f"{ratio(ours, theirs, 'wall'):.2f} x",
        f"{ratio(ours, theirs, 'cpu'):.2f} x",
        f"{_memory(image)} MB",
    )


def _memory(image: Path) -> int:
    """The peak memory of our reader in MB, said by itself: what the system says of a child begins at its parent's."""
    arguments = [sys.executable, "-m", "tests.bench.squashfs", "ours", str(image)]
    said = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return int(said.split()[1]) >> 10


def _fill(folder: Path, *, small: int, large: int) -> None:
    """Files as an image has them: sources in many folders, and libraries of 32 MB that compress by half."""
    chance = random.Random(1)
    words = [chance.randbytes(3).hex().encode() for _ in range(2000)]
    text = b" ".join(chance.choices(words, k=600_000))
    for number in range(small):
        above = folder / f"lib{number % 13}" / f"package{number % 491}"
        above.mkdir(parents=True, exist_ok=True)
        size, at = min(int(chance.paretovariate(0.9) * 600), 400_000), chance.randrange(len(text) // 2)
        (above / f"module{number}.py").write_bytes(text[at : at + size])
    for number in range(large):
        with (folder / f"library{number}.so").open("wb") as file:
            for _ in range(32):
                at = chance.randrange(len(text) // 2)
                file.write(text[at : at + 700_000] + chance.randbytes(300_000))


def ours(image: Path) -> int:
    """How many files our reader finds, each hashed."""
    with image.open("rb") as file:
        root = squashfs.read(file, 0, image.stat().st_size)
    return sum(bool(node.sha256) for _, node in root.walk() if node.kind is FileType.FILE)


def theirs(image: Path) -> int:
    """How many files unsquashfs writes as a pseudo file, each in a tree and hashed."""
    command = [programs.private("unsquashfs"), "-no-progress", "-no-xattrs", "-pf", "-", image]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        root, files = Node(kind=FileType.FOLDER, children={}), list[Node]()
        while (line := process.stdout.readline()) != _DATA:
            if entry := _ENTRY.fullmatch(line):
                _put(root, files, *entry.groups())
        process.stdout.readline()
        for node in files:
            hasher, left = hashlib.sha256(), node.size
            while left:
                part = process.stdout.read(min(left, 1 << 20))
                hasher.update(part)
                left -= len(part)
            node.sha256 = hasher.digest()
    return sum(bool(node.sha256) for _, node in root.walk() if node.kind is FileType.FILE)


def _put(root: Node, files: list[Node], path: bytes, kind: bytes, *numbers: bytes) -> None:
    mode, user, group, size = numbers
    if path == b"/":
        return
    node = Node(kind=FileType.FILE, mode=int(mode, 8), owner=(int(user), int(group)))
    if kind == b"D":
        node.kind, node.children = FileType.FOLDER, {}
    else:
        node.size = int(size)
        files.append(node)
    *above, name = path.split(b"/")
    folder = root
    for part in above:
        assert folder.children is not None
        folder = folder.children[part]
    assert folder.children is not None
    folder.children[name] = node


if __name__ == "__main__":
    print({"ours": ours, "theirs": theirs}[sys.argv[1]](Path(sys.argv[2])))
    print(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0])
