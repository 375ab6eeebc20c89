"""What the records of earlier runs cost the next one: it looks for its name, and hashes the record before its own."""

import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from snakemake_apptainer_freshness.record.journal import folder_of
from snakemake_apptainer_freshness.record.writer import new_id, newest_hash
from tests.bench.timing import table
from tests.support.journals import write

COUNTS, ROUNDS = (1, 100, 1000), 25


def seconds(folder: Path) -> float:
    """What the start of one run takes where the records in `folder` lie."""
    begun = time.perf_counter()
    new_id(folder)
    newest_hash(folder)
    return time.perf_counter() - begun


def copy_of(record: Path, number: int) -> None:
    """Put a further record beside `record`, later than it by `number` seconds."""
    later = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(seconds=number)
    shutil.copyfile(record, record.with_name(f"{later:%Y%m%dT%H%M%S}.000000Z.json"))


def main() -> None:
    """Measure, and print a table."""
    rows = [["records", "start of a run"]]
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as name:
            record = write(Path(name))
            for number in range(1, count):
                copy_of(record, number)
            taken = statistics.median(seconds(folder_of(Path(name))) for _ in range(ROUNDS))
        rows.append([f"{count:,}", f"{1000 * taken:.2f} ms"])
    table("What the records of earlier runs cost the next one", rows)
