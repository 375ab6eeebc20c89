"""From push to pull: a download that hands out its pieces becomes an iterator over them.

A thread downloads, a few pieces ahead of whoever reads; where nobody reads any more it ends with its next piece. After
a failure in the middle a download begins anew, at another mirror perhaps: as many bytes as were read before are then
left out, unseen, since whoever reads hashes the whole.
"""

import queue
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final

from snakemake_apptainer_freshness.settings import TREE

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.registry.client import Sink

_POLL: Final = 0.1  # seconds between two looks at whether anybody still reads


def pulled(download: "Callable[[Sink], None]") -> Generator[bytes, None, None]:
    """The pieces that `download` gives to its argument; its error is raised here."""
    pump = _Pump()
    threading.Thread(target=pump.run, args=(download,), name="blob", daemon=True).start()
    try:
        while (item := pump.pieces.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        pump.abandoned.set()


class _Abandoned(Exception):
    """Nobody reads any more."""


class _Pump:
    """What takes the pieces in the downloading thread, for the reading one."""

    def __init__(self) -> None:
        self.pieces: queue.Queue[bytes | Exception | None] = queue.Queue(TREE.pieces)
        self.abandoned = threading.Event()
        self._given = 0
        self._again = 0

    def run(self, download: "Callable[[Sink], None]") -> None:
        outcome: Exception | None = None
        try:
            download(self)
        except _Abandoned:
            return
        except Exception as error:  # noqa: BLE001  handed to the thread that reads
            outcome = error
        try:
            self._put(outcome)
        except _Abandoned:
            return

    def restart(self) -> None:
        """What comes next is the first piece, perhaps once more."""
        self._again = self._given

    def __call__(self, piece: bytes) -> None:
        skipped = min(self._again, len(piece))
        self._again -= skipped
        if rest := piece[skipped:]:
            self._put(rest)
            self._given += len(rest)

    def _put(self, item: bytes | Exception | None) -> None:
        while not self.abandoned.is_set():
            try:
                self.pieces.put(item, timeout=_POLL)
            except queue.Full:
                continue
            return
        raise _Abandoned
