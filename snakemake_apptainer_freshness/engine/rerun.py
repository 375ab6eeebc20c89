"""Deciding which jobs run again because of their container: only those whose outputs another image made.

Snakemake runs a job again where the software of its outputs changed, and takes the pinned name of an image for other
software than its tag. It asks one method of its persistence, whichever backend that has, for the outputs of a job that
were made with other software: ``software_stack_changed(job)``. That method is wrapped, and each such output is judged:

* Only the container is judged. Snakemake's own hash is computed as it would be if the job's container were the recorded
  one; where that is not the recorded hash, something else changed, too, and Snakemake's answer stands.
* ``rerun: content``: an output stays that was provably made by the image that its rule runs now
  (:mod:`.actions.provenance`). No registry is asked, and nothing is looked at for what Snakemake finds unchanged.
* ``rerun: always`` and ``rerun: never`` do what they say, and say what they did.

Only the main process decides; the process of a job makes its job, and nothing else (:mod:`.engine.handover`).
"""

import contextlib
import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from snakemake_apptainer_freshness.actions.pinning import Pins
from snakemake_apptainer_freshness.engine import containers
from snakemake_apptainer_freshness.engine.messages import Line, log_line
from snakemake_apptainer_freshness.engine.seams import (
    METADATA,
    SOFTWARE_CHANGED,
    SOFTWARE_HASH,
    missing,
    names,
    require,
)
from snakemake_apptainer_freshness.errors import InvalidSettings, LocalIOError, RegistryError
from snakemake_apptainer_freshness.settings import Options, Rerun

if TYPE_CHECKING:  # judging is loaded where there is something to judge: most runs start without it
    from snakemake_apptainer_freshness.actions.lock_claims import ManifestSource
    from snakemake_apptainer_freshness.actions.provenance import Origins, Target

_SEAMS: Final = (SOFTWARE_CHANGED, SOFTWARE_HASH, METADATA)
_TRIGGER: Final = "SOFTWARE_ENV"
_ADOPT: Final = "prove what can be proven with: apptainer-freshness adopt"
_INSTEAD: Final = f"have Snakemake decide alone what to run again, with rerun: {Rerun.ALWAYS}"
_NONE: Final = "no container"
_KEPT: Final = ("", "")
"""Stands for the line about what stays, where lines that were told are remembered."""


class Reruns:
    """Decides for the jobs of `workflow`, whose images are `pins`, whether their container is a reason to run them."""

    def __init__(
        self,
        workflow: Any,
        pins: Pins,
        options: Options,
        *,
        runs_jobs: bool,
        documents: "Callable[[], ManifestSource] | None" = None,
    ) -> None:
        """Prepare to decide; `documents` gives who has the indexes that digests name, if that may be asked."""
        self._workflow = workflow
        self._containers = containers.of(workflow)
        self._pins = pins
        self._options = options
        self._documents = documents
        self._writes = runs_jobs and not workflow.dryrun
        self._known: Origins | None = None
        self._targets: dict[str, Target] = {}
        self._kept: set[str] = set()
        self._reasons: dict[tuple[str, str], tuple[str, list[str]]] = {}
        self._told: set[tuple[str, str]] = set()
        self._concluded = False

    def attach(self) -> None:
        """Wrap the method that Snakemake's persistence is asked by; nothing where Snakemake will not ask.

        Nor where Snakemake compares digests itself, which plugins give it as the hash of an image.

        Raises
        ------
        WorkflowError
            where it has no such method.
        InvalidSettings
            for ``rerun: never`` where Snakemake compares digests itself.
        """
        if _TRIGGER not in names(self._workflow.rerun_triggers):
            return
        if not self._containers.known_by_name:
            if self._options.rerun is Rerun.NEVER:
                raise InvalidSettings(
                    f"this Snakemake compares the digests of images itself, and rerun: {Rerun.NEVER} cannot be had",
                    hint="leave software-env out of --rerun-triggers: mtime params input code",
                )
            return
        persistence = self._workflow.persistence
        if self._options.rerun is Rerun.ALWAYS and any(missing(persistence, *_SEAMS)):
            return
        require(persistence, *_SEAMS, instead=_INSTEAD)
        changed = persistence.software_stack_changed

        def changed_by_content(job: Any, file: Any = None) -> Any:
            if file is not None:
                return changed(job, file=file) and bool(self._changed(job, [file]))
            return self._changed(job, changed(job))

        persistence.software_stack_changed = changed_by_content

    def log_decisions(self) -> None:
        """Log the decisions that were not logged yet."""
        for line in self.lines():
            log_line(line)

    def lines(self) -> list[Line]:
        """Return a line for each decision that was not logged yet."""
        new: list[Line] = []
        if self._kept and _KEPT not in self._told:
            self._told.add(_KEPT)
            outputs = "1 output stays" if len(self._kept) == 1 else f"{len(self._kept)} outputs stay"
            new.append(Line(text=f"  same image: {outputs} although the image has another name now"))
        for key, (why, rules) in self._reasons.items():
            if key not in self._told:
                self._told.add(key)
                new.append(Line(text=self._line(*key, why, rules), problem=True))
        return new

    def remember(self) -> None:
        """Write down what was proven, and what the lock says; from now on, both is done when something is decided."""
        self._concluded = True
        self._origins().memory.learn_entries(self._pins.entries.values())
        self._save()

    def _changed(self, job: Any, files: Iterable[Any]) -> list[Any]:
        """Return those of `files`, which Snakemake says were made with other software, that `job` has to make again."""
        changed = [file for file in files if self._is_changed(job, file)]
        if self._concluded:
            self.log_decisions()
            self._save()
        return changed

    def _is_changed(self, job: Any, file: Any) -> bool:
        record = self._workflow.persistence.metadata(file)
        url, hashed = record.get("container_img_url"), record.get("software_stack_hash")
        if not self._is_hash_with(job, url, hashed):
            # not the container, or not it alone: then Snakemake's answer stands. But where the hash is that of a job
            # without any container, only the container is new
            if self._options.rerun is Rerun.CONTENT or not self._is_hash_with(job, None, hashed):
                return True
            url = None
        if self._options.rerun is not Rerun.CONTENT:
            self._note(job, url, "")
            return self._options.rerun is Rerun.ALWAYS
        from snakemake_apptainer_freshness.actions.provenance import Attribution

        target = self._target(job.container_img_url)
        if target is None or not url:  # nothing says which image it is now, or was
            return True
        started = record.get("starttime") or record.get("endtime")
        judgement = self._origins().judge(url, started, target)
        if judgement.answer is Attribution.SAME:
            self._kept.add(str(file))
            return False
        if judgement.answer is Attribution.UNKNOWN and target.is_meant_by(url):
            self._note(job, url, judgement.detail)
        return True

    def _is_hash_with(self, job: Any, url: str | None, hashed: str) -> bool:
        """Return whether Snakemake's hash of the software of `job` would be `hashed` if its container were `url`."""
        stack_hash = self._workflow.persistence._software_stack_hash  # noqa: SLF001  so that it is Snakemake's own
        return bool(stack_hash(_InContainer(job, url)) == hashed)

    def _note(self, job: Any, url: str | None, why: str) -> None:
        key = url or _NONE, job.container_img_url or _NONE
        rules = self._reasons.setdefault(key, (why, []))[1]
        if job.rule.name not in rules:
            rules.append(job.rule.name)

    def _line(self, made: str, runs: str, why: str, rules: list[str]) -> str:
        who = f"{'rule' if len(rules) == 1 else 'rules'} {', '.join(rules)}"
        match self._options.rerun:
            case Rerun.CONTENT:
                return f"  unproven: {made} ({who}): {why}; it runs again; {_ADOPT}"
            case Rerun.ALWAYS:
                return f"  run again, since rerun is {Rerun.ALWAYS}: {who}: made with {made}, the rule runs {runs}"
            case Rerun.NEVER:
                return f"  NOT run again, since rerun is {Rerun.NEVER}: {who}: made with {made}, the rule runs {runs}"

    def _target(self, url: str | None) -> "Target | None":
        from snakemake_apptainer_freshness.actions.lock_claims import proven_manifest
        from snakemake_apptainer_freshness.actions.provenance import targets_of

        if url is not None and url not in self._targets:
            entries, pins = self._pins.entries.values(), self._pins
            for entry in entries:
                with contextlib.suppress(RegistryError):  # what cannot be asked for is not known, and not the same
                    proven_manifest(entry, pins.platform, self._documents)
            self._targets = targets_of(entries, kind=self._options.pin, platform=pins.platform)
        return self._targets.get(url) if url is not None else None

    def _origins(self) -> "Origins":
        if self._known is None:
            from snakemake_apptainer_freshness.actions.provenance import Origins
            from snakemake_apptainer_freshness.store import history as memories

            persistence = self._workflow.persistence
            path = memories.path_in(Path(persistence.path))
            memory = memories.load(path)
            if memory.problem:
                log_line(Line(text=f"apptainer-freshness: not using {path}: {memory.problem}", problem=True))
            self._known = Origins(self._containers.folder, memory, remember=self._writes)
        return self._known

    def _save(self) -> None:
        if not self._writes:
            return
        from snakemake_apptainer_freshness.store import history as memories

        try:
            memories.save(memories.path_in(Path(self._workflow.persistence.path)), self._origins().memory)
        except LocalIOError as error:
            log_line(Line(text=f"apptainer-freshness: {error.message}", problem=True))


class _InContainer:
    """A job, as Snakemake's hash function would see it if its container were another one."""

    def __init__(self, job: Any, url: str | None) -> None:
        self._job = job
        self.container_img_url = url

    @property
    def conda_env(self) -> Any:
        """The job's environment; one that is made inside the container has the container's url in its own hash."""
        env = self._job.conda_env
        image = getattr(env, "_container_img", None)
        if image is None:
            return env
        other = copy.copy(env)
        other._hash = None  # noqa: SLF001  computed anew by Snakemake
        other._container_img = None  # noqa: SLF001
        if self.container_img_url:
            other._container_img = copy.copy(image)  # noqa: SLF001
            other._container_img.url = self.container_img_url  # noqa: SLF001
        return other

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)
