"""Asking registries: ``apptainer-freshness resolve`` beside ``xargs -P32 crane digest``, whole processes, in turn.

The registry is the simulator, by https, with a token for each repository, at 30 ms a round trip; a new connection costs
two more (TCP, TLS 1.3). Both programs run on the machine that also runs the registry.

*Network part* is the time between the first connection and the last answer, as the registry sees it. The *floor* is
what the round trips alone take at the concurrency used: each thread's connection to each host, then for each
reference on it a token and a HEAD. We ask for more, and that is in our time: each host's challenge, which says where
tokens are to be had. *Own round trips* counts that, too. Where crane asks for the digest (HEAD) and believes it, we
fetch the manifest (GET) and hash it: as many round trips, more bytes.
"""

import contextlib
import math
import shlex
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.settings import LIMITS
from tests.bench.timing import Command, Run, in_turn, median, ratio, table
from tests.support import programs
from tests.support.certificates import authority
from tests.support.lab import manifest
from tests.support.pins import lock_entry
from tests.support.simulator import Simulator

ROUND_TRIP = 0.030
# crane takes plain http for granted at 127.0.0.1 and tries it first, which would cost it a connection.
ADDRESS = "127.0.0.2"
CRANES = 32
CONNECTION, CHALLENGE, TOKEN, MANIFEST = 2, 1, 1, 1  # round trips; a manifest by HEAD or GET
RESOLVE = "from snakemake_apptainer_freshness.cli import main; main()"
RESOLVE_ALL = """
import sys
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Entry, loads
from snakemake_apptainer_freshness.registry.resolver import Resolver
with Resolver() as resolver:
    references = map(parse, loads(open(sys.argv[1]).read()).entries)
    assert all(isinstance(answer, Entry) for _, answer in resolver.resolve(references))
"""
CHECK = """
import sys
from snakemake_apptainer_freshness.lockfile import loads
from snakemake_apptainer_freshness.registry.resolver import Resolver
with Resolver() as resolver:
    states = [fact.state for _, fact in resolver.check(loads(open(sys.argv[1]).read()))]
assert set(states) == {"current"}, set(states)
"""


@contextlib.contextmanager
def registries(count: int, *, auth: str | None = "token") -> Iterator[list[Simulator]]:
    """`count` registries at their own ports."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                Simulator(tls=authority(), auth=auth, latency=ROUND_TRIP, name=ADDRESS, address=ADDRESS)
            )
            for _ in range(count)
        ]


def fill(servers: Sequence[Simulator], images: int) -> list[str]:
    """References to `images` images, evenly over `servers`."""
    found = []
    for number in range(images):
        server = servers[number % len(servers)]
        server.publish(f"team/tool{number}", "1.0", manifest(number))
        found.append(f"{server.host}/team/tool{number}:1.0")
    return found


def commands(folder: Path, references: Sequence[str]) -> tuple[Command, Command]:
    """Ours, and crane."""
    (folder / "ours").write_text("".join(f"docker://{name}\n" for name in references), encoding="utf-8")
    (folder / "crane").write_text("".join(f"{name}\n" for name in references), encoding="utf-8")
    environment = {
        **programs.environment(folder),
        "SSL_CERT_FILE": str(authority().certificate),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    ours = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(RESOLVE)} resolve - < ours"
    crane = f"exec xargs -P{CRANES} -n1 {shlex.quote(str(programs.find('crane')))} digest < crane"
    return tuple(
        Command(arguments=["sh", "-c", command], folder=folder, environment=environment) for command in (ours, crane)
    )  # type: ignore[return-value]


def floor(references: int, hosts: int) -> float:
    """Seconds that connections, tokens and HEADs alone take."""
    rounds = math.ceil(references / LIMITS.concurrency)
    return ROUND_TRIP * (CONNECTION * hosts + rounds * (TOKEN + MANIFEST))


def own_round_trips(references: int, hosts: int) -> float:
    """Seconds that all that we ask takes."""
    return floor(references, hosts) + ROUND_TRIP * CHALLENGE * hosts


def network(servers: Sequence[Simulator]) -> float:
    """Seconds between the first connection and the last answer; forgets both."""
    begun = min(server.first_connection for server in servers)
    ended = max(server.last_answer for server in servers)
    for server in servers:
        server.clear()
    return ended - begun


def beside_crane(images: int, hosts: int, rounds: int) -> list[str]:
    """One row: `images` references over `hosts` registries."""
    with tempfile.TemporaryDirectory() as folder, registries(hosts) as servers:
        ours, crane = commands(Path(folder), fill(servers, images))
        parts: list[float] = []

        def run_ours() -> Run:
            for server in servers:
                server.clear()
            run = ours.run()
            parts.append(network(servers))
            return run

        mine, theirs = in_turn(run_ours, crane.run, rounds=rounds)
    part = statistics.median(parts[1:])
    return [
        f"{images} over {hosts} host{'s' if hosts > 1 else ''}",
        f"{median(mine, 'wall'):.2f} s",
        f"{median(theirs, 'wall'):.2f} s",
        f"{ratio(mine, theirs, 'wall'):.2f}",
        f"{part:.2f} s",
        f"{part / floor(images, hosts):.2f}",
        f"{part / own_round_trips(images, hosts):.2f}",
        f"{median(mine, 'cpu'):.2f} s / {median(theirs, 'cpu'):.2f} s",
    ]


def alone(images: int) -> list[str]:
    """One row: ours, over five hosts."""
    with tempfile.TemporaryDirectory() as folder, registries(5) as servers:
        ours, _ = commands(Path(folder), fill(servers, images))
        runs = [ours.run() for _ in range(3)]
    wall = median(runs, "wall")
    return [str(images), f"{wall:.2f} s", f"{wall / images * 1000:.1f} ms", f"{median(runs, 'memory'):.0f} MiB"]


def counted(images: int, code: str) -> list[str]:
    """What `code`, given a full lock, asks of a registry that serves without token."""
    with tempfile.TemporaryDirectory() as name, registries(1, auth=None) as (server,):
        folder = Path(name)
        entries = []
        for text in fill([server], images):
            reference = parse(f"docker://{text}")
            digest = server.digest(reference.repository, "1.0")
            media_type = "application/vnd.oci.image.manifest.v1+json"
            entries.append(lock_entry(reference=reference.text, digest=digest, media_type=media_type))
        (folder / "containers.lock").write_text(dumps(Lock.of(entries)), encoding="utf-8")
        _, crane = commands(folder, [])
        server.clear()
        Command(
            arguments=[sys.executable, "-c", code, "containers.lock"], folder=folder, environment=crane.environment
        ).run()
        asked = [request.method for request in server.requests]
        assert all("/manifests/" in request.path for request in server.requests), "no client pings"
    heads, gets = asked.count("HEAD"), asked.count("GET")
    return [str(images), "new pins" if code is RESOLVE_ALL else "nothing moved", str(heads), str(gets)]


def main() -> None:
    """Print the tables."""
    columns = ["references", "ours", "crane", "ratio", "network part", "of the floor", "of own round trips", "CPU"]
    rows = [beside_crane(50, 1, 7), beside_crane(1000, 5, 2)]
    table(f"Resolving, {ROUND_TRIP * 1000:.0f} ms a round trip, a token for each repository", [columns, *rows])
    table(
        "The same, ours alone, over five hosts",
        [["references", "time", "each", "memory"], *map(alone, (250, 500, 1000, 2000))],
    )
    table(
        "Requests to a registry without tokens",
        [
            ["references", "of them", "HEAD", "GET"],
            *(counted(images, code) for code in (RESOLVE_ALL, CHECK) for images in (50, 1000)),
        ],
    )


if __name__ == "__main__":
    main()
