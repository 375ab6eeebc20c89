"""Watches images while jobs run on them: a job whose image was touched meanwhile fails, and its outputs go.

Between the last look at an image and the moment at which Apptainer opens it lie the starts of a shell and of Apptainer,
and an unprivileged Apptainer reads an image as long as its container runs. Nothing that an ordinary user has keeps
others of the same user from the file so long: neither an open file nor a private hard link, since they lead to bytes
that can be written. But no write, no rename and no restored time leaves a file's ``ctime`` as it was. So the process
that looked before the job looks again after it, before Snakemake takes its outputs. Of a sandbox it looks at each file.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from snakemake_apptainer_freshness.engine.messages import workflow_error
from snakemake_apptainer_freshness.engine.notes import on_running, single
from snakemake_apptainer_freshness.engine.seams import CHECK_OUTPUT, JOBS_START
from snakemake_apptainer_freshness.store.held import ImageKey, is_untouched


class _Look(NamedTuple):
    """At `path` lay the image of this `key` when a job was about to run it."""

    path: Path
    key: ImageKey


class ImageWatch:
    """Looks after each job of `dag` whether its image is still what it was before."""

    def __init__(self, dag: Any, url_of: Callable[[Any], str]) -> None:
        """Begin; `url_of` gives the url that a job runs, empty where it runs no container."""
        self._url_of = url_of
        self._starting: dict[str, list[Any]] = {}
        """Jobs by the url of their image that nothing has looked at yet."""
        self._looks: dict[Any, _Look] = {}
        if CHECK_OUTPUT.is_in(dag) and JOBS_START.is_in(dag):
            on_running(dag, self._begin)
            check = dag.check_and_touch_output

            async def check_image_first(job: Any, *args: Any, **kwargs: Any) -> Any:
                self._end(job)
                return await check(job, *args, **kwargs)

            dag.check_and_touch_output = check_image_first

    def looked(self, url: str, path: Path, key: ImageKey) -> None:
        """Note that the image of `url`, which lies at `path` and has this `key`, is proven and about to be run."""
        for job in self._starting.pop(url, ()):
            self._looks[job] = _Look(path=path, key=key)

    def _begin(self, jobs: Iterable[Any]) -> None:
        for job in single(jobs):
            self._looks.pop(job, None)
            if url := self._url_of(job):
                self._starting.setdefault(url, []).append(job)

    def _end(self, job: Any) -> None:
        """Fail a `job` whose image was touched.

        Raises
        ------
        WorkflowError
            which Snakemake takes for a failure of the job.
        """
        look = self._looks.pop(job, None)
        if look is None or is_untouched(look.path, look.key):
            return
        raise workflow_error(
            f"the image {look.path} was changed, replaced or touched while the job ran, so what it made is not proven "
            "to come from the pinned image",
            job.rule,
        )
