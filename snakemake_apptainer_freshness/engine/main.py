"""The main process of a run: may ask registries, tells the user, writes the lock, and hands the pins to its jobs.

The references that rules name are pinned before Snakemake builds its DAG, since the DAG depends on them: what is in the
lock costs nothing, what is missing is asked for all at once. Whether tags moved is asked while Snakemake builds the
DAG. By the time the DAG stands, before any job starts, the user is told and the lock is written. Commands that run no
job (``--summary``, ``--dag``, ``--touch``, ...) apply the lock without a network and change nothing.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_apptainer_freshness.actions.lock_claims import claimed_and_proven, hold
from snakemake_apptainer_freshness.actions.lock_io import read_lock, write_lock
from snakemake_apptainer_freshness.actions.pinning import DriftCheck, LazyResolver, Pins, TagResolver
from snakemake_apptainer_freshness.actions.remembered import RememberedAnswers
from snakemake_apptainer_freshness.actions.sif_signatures import SifFile
from snakemake_apptainer_freshness.actions.site import site_files
from snakemake_apptainer_freshness.engine import cleanup, config, containers, handover, images, messages, seams, summary
from snakemake_apptainer_freshness.engine.messages import as_workflow_errors, log_line, wants_progress
from snakemake_apptainer_freshness.engine.pins_file import PinsFile
from snakemake_apptainer_freshness.engine.policy_check import PolicyCheck
from snakemake_apptainer_freshness.engine.rerun import Reruns
from snakemake_apptainer_freshness.engine.session import Session
from snakemake_apptainer_freshness.freshness import UNCHECKED, Action, RemoteFact, Verdict, compare, decide
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.lockfile import Entry, changes
from snakemake_apptainer_freshness.record.overrides import over_programs, settings_of
from snakemake_apptainer_freshness.settings import LIMITS, Mode, Options, PinKind
from snakemake_apptainer_freshness.store import image_library

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.engine.recording import Recorder
    from snakemake_apptainer_freshness.policy.verification import Signed
    from snakemake_apptainer_freshness.registry.resolver import Resolver


class MainSession(Session):
    """Pins `workflow` as `options` say."""

    def __init__(self, workflow: Any, options: Options) -> None:
        provider = images.Images(workflow, options, main=True)
        self._runs_jobs = workflow.executor_plugin is not None and not workflow.touch
        if not self._runs_jobs:
            options = replace(options, mode=Mode.FROZEN)
        self._options = options
        self._path = config.lock_path(workflow, options)
        asking = LazyResolver(lambda: _resolver(options))
        self._documents = None if options.mode is Mode.FROZEN else asking.resolver
        """Gives who has the indexes that the lock's digests name; None where no registry may be asked."""
        self._registries: TagResolver = RememberedAnswers(
            asking, every=options.check_every, remembers=not workflow.dryrun
        )
        self._drift = DriftCheck(lambda: self._registries)
        self._untold: list[str] = []
        self._told_verdicts: dict[str, Verdict] = {}
        """By reference; what the disk says is not in them yet."""
        self._warned: set[str] = set()
        self._built = False
        self._concludes_later = False
        self._main_pins = Pins(
            options=options,
            lock=read_lock(self._path),
            lockfile=_shown(self._path),
            platform=Platform.here(),
            quiet=not wants_progress(workflow),
            tolerant=not self._runs_jobs,
            registries=lambda: self._registries,
            hold=self._hold if options.pin is PinKind.PLATFORM and self._runs_jobs else None,
        )
        self._recorder = self._new_recorder(workflow, provider) if self._runs_jobs and not workflow.dryrun else None
        by_name = self._recorder is not None and containers.of(workflow).known_by_name
        self._aliases = cleanup.aliases_of(workflow) if by_name else None
        self._pins_file = PinsFile(workflow) if self._recorder is not None else None
        self._reruns = Reruns(workflow, self._main_pins, options, runs_jobs=self._runs_jobs, documents=self._documents)
        super().__init__(workflow, self._main_pins, provider)
        self._policing: PolicyCheck | None = None
        if self._runs_jobs:
            files = site_files(self._path, Path(workflow.main_snakefile))
            self._policing = PolicyCheck(
                options,
                files,
                folder=self._path.parent,
                place=self.place_of,
                registry=asking.resolver,
                dryrun=workflow.dryrun,
                sees_images=self._sees_images(),
            )
        if not self._runs_jobs:
            cleanup.protect(workflow, self._main_pins.lock)

    def _hold(self, entry: Entry) -> None:
        hold(entry, self._main_pins.platform, self._documents, lockfile=self._main_pins.lockfile)

    def build_dag(self, build: Callable[[], Any]) -> Any:
        """Build the DAG, then tell the user and write the lock."""
        with as_workflow_errors():
            self._reruns.attach()
        if self._recorder is not None:
            self._recorder.attach()
        if self._pins_file is not None:
            self._pins_file.attach()
        built = super().build_dag(build)
        self._built = True
        self._concludes_later = self._looks_for_images_first()
        if not self._concludes_later:
            with as_workflow_errors():
                self._conclude()
        return built

    def verdicts(self) -> Mapping[str, Sequence[Verdict]]:
        """Return what registries said of the references that jobs need, by the url that rules run."""
        table = self._main_pins.table()
        by_url: dict[str, list[Verdict]] = {}
        for text, verdict in self._told_verdicts.items():
            if text in self.needed:
                by_url.setdefault(table[text].url, []).append(verdict)
        return by_url

    def on_provided(self) -> None:
        """Hold images to the policies, give them their tags' names too; conclude a dry run, which waited for this."""
        self._hand_over()
        if self._policing is not None and not self.workflow.dryrun:
            self._policing.files(self._files())
            for line in self._policing.lines():
                log_line(line)
        if self._aliases is not None:
            table = self._main_pins.table()
            self._aliases.make({text: table[text].url for text in self.needed if text in table})
        if self._concludes_later:
            self._concludes_later = False
            self._conclude()

    def _looks_for_images_first(self) -> bool:
        """Return whether this is a dry run in which Snakemake is about to look for images.

        It starts no job after that.
        """
        return self.workflow.dryrun and self._runs_jobs and self._sees_images()

    def _sees_images(self) -> bool:
        """Return whether images are fetched here, and not by each job for itself."""
        return "SOFTWARE_DEPLOYMENT" in seams.names(self.workflow.storage_settings.shared_fs_usage)

    def _files(self) -> dict[str, SifFile]:
        """Return the file of each image that a job needs, as the disk was found to have it."""
        pins, facts = self._main_pins.images(), self._images.facts
        urls = {text: pinned.url for text, pinned in self._main_pins.table().items() if text in self.needed}
        return {text: SifFile(pin=pins[url], fact=facts[url]) for text, url in urls.items() if url in facts}

    def on_named(self, references: list[str]) -> None:
        """Hold the names to the policies, before any registry hears of them."""
        if self._policing is not None:
            self._policing.names(references)

    def on_pinned(self, references: list[str]) -> None:
        """Ask whether the tags of new `references` moved, and hand their pins to the jobs that start from now on."""
        pins = self._main_pins
        if self._options.mode in (Mode.LOCK, Mode.LOCKED):
            self._drift.ask(entry for text in references if (entry := pins.lock.get(text)) is not None)
        if self._recorder is not None:
            self._recorder.note_pins(pins.table())
        self._hand_over()
        self._untold += references
        if self._built and references:
            self._conclude()

    def _hand_over(self) -> None:
        """Hand the pins, and what the images that are proven hashed to, to the jobs that start from now on."""
        if self._pins_file is None:
            return
        options = self._options
        handed_over = handover.Handover(
            pins=self._main_pins.table(),
            mode=options.mode,
            on_unverified=options.on_unverified,
            hashes=self._images.hashes,
            run=self._recorder.run if self._recorder is not None else "",
            images=image_library.folders(options.images),
        )
        handover.hand_over(self.workflow.config_settings, self._pins_file.word(handed_over))

    def _conclude(self) -> None:
        """Write the lock, then log what was not logged yet: no pin is logged as added before it is written."""
        pins, options, dryrun = self._main_pins, self._options, self.workflow.dryrun
        if self._runs_jobs and pins.entries and not dryrun:
            self._containers.require_program()  # takes its time, in which registries answer
        if self._policing is not None:
            self._policing.pins(self._untold, pins)
        verdicts = self._verdicts(self._untold)
        self._told_verdicts |= {verdict.reference.text: verdict for verdict in verdicts}
        refused = [verdict.reference.text for verdict in verdicts if self._refuses(verdict)]
        before, is_first = pins.lock, not self._path.exists()
        after = pins.new_lock() if options.mode.writes_lock and not refused else before
        if self._runs_jobs and not dryrun and not refused:
            pins.lock = write_lock(self._path, before=before, after=after)
        facts = summary.Facts(
            verdicts=verdicts,
            changes=[change for change in changes(before, after) if change.moves_pin],
            unpinnable={text: why for text, why in pins.unpinnable.items() if text in self._untold},
            left_alone=[text for text in self._untold if text in pins.left_alone],
            unneeded={text: error.message for text, error in pins.failures.items() if text in self._untold},
            refused=refused,
        )
        lines = summary.lines(facts, options, lockfile=pins.lockfile, dryrun=dryrun)
        lines += [] if self._policing is None else self._policing.lines()
        for line in summary.keep_summary_visible([*lines, *self._new_warnings(), *self._reruns.lines()]):
            log_line(line)
        self._untold = []
        if refused:
            raise images.tags_moved(refused)
        if self._runs_jobs and not dryrun:
            cleanup.register(self.workflow, self._path, pins.lock, pins.unpinnable)
            self._reruns.remember()
            if is_first and after.entries:
                log_line(
                    messages.Line(
                        text=f"  new: {pins.lockfile}: commit it, so that every run of this workflow runs these images"
                    )
                )

    def _new_recorder(self, workflow: Any, provider: images.Images) -> "Recorder":
        from snakemake_apptainer_freshness.engine.recording import Recorder
        from snakemake_apptainer_freshness.engine.witnesses import Witnesses

        recorder = Recorder(
            workflow,
            options=self._options,
            lock=self._path,
            witnesses=Witnesses(
                pins=self._main_pins, remote=self._drift.facts, disk=provider.facts, signed=self._signed
            ),
            original=lambda rule, wildcards: self.original(rule, wildcards) if self.original else None,
        )
        self._registries = recorder.witnesses.listening(self._registries)
        provider.watcher = recorder.note_image
        return recorder

    def _signed(self, reference: str) -> "tuple[Signed, ...]":
        return () if self._policing is None else self._policing.signed.get(reference, ())

    def _new_warnings(self) -> list[messages.Line]:
        """Return a line for each warning that was not logged yet: of registries, and of what is put over images."""
        warnings = [*self._registries.warnings, *(self._put_over_images() if self._runs_jobs else ())]
        new = [warning for warning in warnings if warning not in self._warned]
        self._warned.update(new)
        return [messages.Line(text=f"  note: {warning}", problem=True) for warning in new]

    def _put_over_images(self) -> list[str]:
        """Say what Apptainer is told to put over programs of images, perhaps by a profile that came with a workflow."""
        overrides = over_programs(settings_of(self._containers.arguments, os.environ, folder=str(Path.cwd())).overrides)
        return [f"{text}: what is made then is not proven" for text in overrides]

    def _refuses(self, verdict: Verdict) -> bool:
        """Return whether what the registry says stops the run already; with the disk's word it is decided on again."""
        is_needed = verdict.reference.text in self.needed
        return is_needed and decide(verdict, self._options).action is Action.REFUSE

    def _answers(self) -> Mapping[str, RemoteFact]:
        """Wait for what the registries say of tags; the user sees it."""
        if not self._drift.is_waited_for:
            return self._drift.facts()
        from snakemake_apptainer_freshness.common.progress import ProgressBars

        with ProgressBars(enabled=wants_progress(self.workflow), say=messages.log_waiting) as bars:
            bars.begin("asking registries whether tags moved")
            return self._drift.facts()

    def _verdicts(self, references: list[str]) -> list[Verdict]:
        facts, pins = self._answers(), self._main_pins
        return [
            self._compared(entry, facts.get(text, pins.resolved.get(text, UNCHECKED)))
            for text in references
            if (entry := pins.entries.get(text)) is not None
        ]

    def _compared(self, entry: Entry, remote: RemoteFact) -> Verdict:
        platform = self._main_pins.platform
        manifest = claimed_and_proven(entry, remote, platform, self._documents)
        return compare(entry, remote, None, platform=platform, manifest=manifest)


def _resolver(options: Options) -> "Resolver":
    from snakemake_apptainer_freshness.registry.resolver import Resolver

    return Resolver(limits=LIMITS.waiting(options.timeout))


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
