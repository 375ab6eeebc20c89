"""Images of a run: a job runs what its pin names, or nothing.

Where Snakemake fetches its images, before any job that needs them starts, ours are fetched and proven instead
(:mod:`.actions.fetch`); Snakemake then finds them under the names that it expects, and fetches what is left. Where a
job takes the path of its image, in the process that is about to run it, the file must still have the hash that was
proven: the main process has it in memory, the process of a job got it with its pins, and neither believes a file that a
container could have written (:mod:`.store.held`). That costs a ``stat``, unless the file was touched.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness import CONFIG_KEY
from snakemake_apptainer_freshness.engine import containers
from snakemake_apptainer_freshness.engine.guard import Guard, describe
from snakemake_apptainer_freshness.engine.messages import Line, log_line, wants_progress
from snakemake_apptainer_freshness.engine.seams import LOCAL_EXECUTION
from snakemake_apptainer_freshness.engine.watch import ImageWatch
from snakemake_apptainer_freshness.errors import TagMoved, UnprovenImage
from snakemake_apptainer_freshness.freshness import (
    Action,
    Decision,
    DiskFact,
    DiskState,
    Evidence,
    FileHash,
    Reason,
    Repairable,
    Verdict,
    decide,
    most_severe,
)
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import Mode, Options
from snakemake_apptainer_freshness.store.held import ImageKey, held
from snakemake_apptainer_freshness.store.prefix import image_path

Watcher = Callable[[str, DiskFact], None]

_LOCAL: Final = f"put the file back, or accept it as it is now with --config {CONFIG_KEY}={Mode.UPDATE}"
_FROZEN: Final = (
    f"mode {Mode.FROZEN} fetches nothing: run 'apptainer-freshness pull' where the registry can be reached, or "
    "bring it from there with 'apptainer-freshness bundle load'"
)


class Images:
    """Provides the images of one `workflow` for its jobs, as `options` say."""

    def __init__(
        self, workflow: Any, options: Options, *, main: bool, hashes: Mapping[str, FileHash] | None = None
    ) -> None:
        """Begin; `hashes` are those that the main process handed over, by url."""
        self._workflow = workflow
        self._containers = containers.of(workflow)
        self._options = options
        self._main = main
        self._provided: set[str] = set()
        self._verdicts: Mapping[str, Sequence[Verdict]] = {}
        self.facts: dict[str, DiskFact] = {}
        """What lay there for each url when its image was provided."""
        self.hashes: dict[str, FileHash] = dict(hashes or {})
        """What each image hashed to when it was proven, by its url."""
        self.guarded: set[str] = set()
        self.watcher: Watcher | None = None
        """Is called with what the file of a guarded url is, each time that a job is about to run it."""
        self._watch: ImageWatch | None = None

    def guard(self, pins: Mapping[str, Pin]) -> None:
        """Let no job have the path of an image that is not what its pin in `pins` (by url) names."""
        options = self._options
        if self._workflow.executor_plugin is None:  # no job is run, so nothing has to be proven
            options = replace(options, mode=Mode.OFF)
        elif self._watch is None and not self._workflow.dryrun and not self._workflow.touch:
            self._watch = ImageWatch(self._workflow.dag, self._containers.url_of)
        self.guarded |= self._containers.guard(pins, options, hashes=self.hashes, on_image=self._on_image)

    def _on_image(self, url: str, fact: DiskFact, key: ImageKey | None) -> None:
        if self._watch is not None and key is not None and fact.state is DiskState.VERIFIED:
            self._watch.looked(url, Path(fact.path), key)
        if self.watcher is not None:
            self.watcher(url, fact)

    def provide(
        self, pins: Mapping[str, Pin], pull: Callable[[], Any], verdicts: Mapping[str, Sequence[Verdict]]
    ) -> Any:
        """Have a proven image for each of `pins` that a job needs, then let Snakemake `pull` the others.

        `verdicts` are what registries said of each url: now that the disk speaks as well, the three are decided on.

        Raises
        ------
        TagMoved
            where a tag moved away from its pin, and the options forbid to run that.
        UnprovenImage
            where an image is not what its pin names, and the options or the mode forbid to repair it.
        FreshnessError
            where an image cannot be fetched.
        """
        if self._workflow.dryrun or self._workflow.touch:  # no job is run, so nothing has to be proven
            return pull()
        guards = {url: guard for url, guard in self._containers.guards().items() if url in pins}
        needed = {url: guard for url, guard in guards.items() if url not in self._provided}
        self._verdicts = verdicts
        # an image that was provided may be that of another tag, too, which a job needs only now
        if moved := self._moved(url for url in guards if url not in needed):
            raise tags_moved(moved)
        if needed:
            self._prove_local([guard for guard in needed.values() if guard.is_local])
            self._provide([pins[url] for url, guard in needed.items() if not guard.is_local])
            self._provided |= set(needed)
        return pull()

    def _prove_local(self, guards: list[Guard]) -> None:
        """Hold images that are files of this machine to their pins; they are the user's to put back."""
        self.facts |= {guard.pin.url: guard.fact() for guard in guards}
        pins = [guard.pin for guard in guards]
        self._carry_out(pins, Repairable.NOTHING, hint=_LOCAL)

    def _provide(self, pins: list[Pin]) -> None:
        prefix = self._containers.folder
        self._look(pins, prefix)
        self._look_in_libraries(pins)
        # a job repairs no image: other jobs may run it. It fetches what is not there, where no folder is shared
        repairable = Repairable.ANYTHING if self._main else Repairable.ABSENT
        frozen = self._options.mode is Mode.FROZEN
        unproven = [pin for pin in pins if self._is_worth_proving(self._decide(pin, repairable))]
        if unproven:
            from snakemake_apptainer_freshness.engine.pulling import attest_images

            bars = wants_progress(self._workflow)
            self.facts |= attest_images(unproven, prefix, self.facts, bars=bars, online=not frozen)
        missing = self._carry_out(pins, repairable, hint=_FROZEN if frozen else self._containers.what_next)
        if missing:
            from snakemake_apptainer_freshness.engine.pulling import fetch_images

            fetched = fetch_images(missing, prefix, bars=wants_progress(self._workflow))
            self.facts |= {result.pin.url: result.fact for result in fetched}
        if self._main and LOCAL_EXECUTION.is_in(self._workflow) and not self._workflow.local_exec:
            from snakemake_apptainer_freshness.actions.check import check_settled

            self.facts |= check_settled([pin for pin in pins if self._is_unsettled(pin)], prefix)
        self.hashes |= {pin.url: known for pin in pins if (known := self.facts[pin.url].known) is not None}

    def _look(self, pins: list[Pin], prefix: Path) -> None:
        """Look at the images of `pins`: each is held to its hash where that is known, any other is checked."""
        handed = {
            url: held(image_path(prefix, url), self.hashes[url]) for pin in pins if (url := pin.url) in self.hashes
        }
        self.facts |= handed
        others = [pin for pin in pins if pin.url not in handed]
        if others:  # not in the process of a job, which has the hashes of its images
            from snakemake_apptainer_freshness.actions.check import check

            self.facts |= check(others, prefix)

    def _is_unsettled(self, pin: Pin) -> bool:
        """Return whether the image of `pin` is proven, and each look at it would hash it."""
        fact = self.facts[pin.url]
        if Path(fact.path).parent != self._containers.folder:
            return False  # in a library: its clock is not known
        return fact.state is DiskState.VERIFIED and (fact.known is None or fact.known.stat is None)

    def _look_in_libraries(self, pins: list[Pin]) -> None:
        """Use what a site's library has of those `pins` whose images are not proven: what was found there before.

        The main process searches it where fetching, or refusing, would be next.
        """
        wanted = [pin for pin in pins if self.facts[pin.url].state is not DiskState.VERIFIED]
        if not wanted:
            return
        from snakemake_apptainer_freshness.actions.library_images import look_again
        from snakemake_apptainer_freshness.store import image_library

        if not image_library.folders(self._options.images):
            return
        for pin in wanted:
            served = look_again(pin, self._options.images, hashed=self.hashes.get(pin.url))
            if served is not None and served.state is DiskState.VERIFIED:
                self.facts[pin.url] = served
        wanted = [pin for pin in wanted if self.facts[pin.url].state is not DiskState.VERIFIED]
        if wanted and self._main:
            from snakemake_apptainer_freshness.engine.pulling import search_libraries

            online = self._options.mode is not Mode.FROZEN
            bars = wants_progress(self._workflow)
            self.facts |= search_libraries(wanted, self._options.images, bars=bars, online=online)

    @staticmethod
    def _is_worth_proving(decision: Decision) -> bool:
        """Return whether a comparison with its layers may make a sound image run without a word, or at all."""
        return decision.reason is Reason.UNVERIFIED and decision.action in (Action.WARN, Action.REFUSE)

    def _decide(self, pin: Pin, repairable: Repairable) -> Decision:
        """Return what is decided on the image of `pin`: of several references that run it, the most severe."""
        fact = self.facts[pin.url]
        told_of: Sequence[Evidence] = self._verdicts.get(pin.url) or (Evidence(),)
        return most_severe(
            decide(replace(evidence, disk=fact), self._options, repairable=repairable) for evidence in told_of
        )

    def _carry_out(self, pins: list[Pin], repairable: Repairable, *, hint: str) -> list[Pin]:
        """Refuse, and tell of, what is decided of `pins`; gives those to be repaired.

        Raises
        ------
        UnprovenImage
            with every image that may not run.
        TagMoved
            with every reference whose tag moved, where nothing else is refused.
        """
        decided = {pin: self._decide(pin, repairable) for pin in pins}
        refused = {pin: decision.reason for pin, decision in decided.items() if decision.action is Action.REFUSE}
        if bad := [(pin, self.facts[pin.url]) for pin, reason in refused.items() if reason is not Reason.MOVED]:
            raise _refusal(bad, hint=hint)
        if refused:
            raise tags_moved(self._moved(pin.url for pin in refused))
        for pin, decision in decided.items():
            # what registries say was told when the pins were
            if decision.action is Action.WARN and decision.reason in (Reason.UNVERIFIED, Reason.DISPROVEN):
                _tell_unproven(self.facts[pin.url])
        return [pin for pin, decision in decided.items() if decision.action is Action.REPAIR]

    def _moved(self, urls: Iterable[str]) -> list[str]:
        """Return the references whose images are those of `urls`, and which may not run by what registries said."""
        verdicts = [verdict for url in urls for verdict in self._verdicts.get(url, ())]
        return [
            verdict.reference.text for verdict in verdicts if decide(verdict, self._options).action is Action.REFUSE
        ]


def tags_moved(references: Iterable[str]) -> TagMoved:
    """Return the error that the tags of `references` moved, which the options refuse."""
    return TagMoved(
        f"on_moved is error, and tags moved away from their pins: {', '.join(references)}",
        hint=f"take the new images with --config {CONFIG_KEY}={Mode.UPDATE}, or set on_moved to warn",
    )


def _tell_unproven(fact: DiskFact) -> None:
    log_line(Line(text=f"apptainer-freshness: running an unproven image: {describe(fact)}", problem=True))


def _refusal(bad: list[tuple[Pin, DiskFact]], *, hint: str) -> UnprovenImage:
    lines = [f"  {pin.reference.text}: {describe(fact)}" for pin, fact in bad]
    count = "an image is" if len(bad) == 1 else f"{len(bad)} images are"
    return UnprovenImage("\n".join([f"{count} not proven to be what the lock names:", *lines]), hint=hint)
