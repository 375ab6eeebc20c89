"""A work directory that is filled by hand and then audited."""

import pytest

from snakemake_apptainer_freshness.audit import judge
from snakemake_apptainer_freshness.audit.selection import EVERYTHING
from snakemake_apptainer_freshness.engine.persistence import read
from tests.support import records


class Work:
    """`folder` is the work directory; runs are numbered from 1."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def output(self, path, content=None, **changes):
        return records.output(self.folder, path, content, **changes)

    def image(self, **changes):
        return records.image(self.folder, **changes)

    def run(self, number, *jobs, **changes):
        return records.run(self.folder, number, *jobs, **changes)

    def write(self, *runs, **changes):
        return records.write(self.folder, *runs, **changes)

    def metadata(self, path, **fields):
        return records.metadata(self.folder, path, **fields)

    def audit(self, *others, selection=EVERYTHING, ask=None):
        return judge.audit([self.folder, *others], read_metadata=read, selection=selection, ask=ask)

    def simple(self, *paths, rule="count"):
        """One run that made `paths` with one proven image, and Snakemake's metadata of it."""
        image = self.image()
        left = [self.output(path) for path in paths]
        jobs = [records.job(number, rule, one, ran=image) for number, one in enumerate(left)]
        for one in left:
            self.metadata(one.path, rule=rule, container_img_url=image.pinned, endtime=one.mtime_ns / 1e9)
        self.write(self.run(1, *jobs, images=(image,)))
        return image


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path / "work")


@pytest.fixture
def other_work(tmp_path):
    return Work(tmp_path / "other")
