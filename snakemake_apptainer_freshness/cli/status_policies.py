"""What policies say of what is locked, for ``status``; and what lies beside images as their signatures.

Signatures that a policy asks for are looked for, as a run would, and those that a run has seen are enough. All others
are looked for only with ``--signatures``, since that costs some requests an image; they are counted and not judged: no
policy says whose they ought to be.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_apptainer_freshness.cli import output
from snakemake_apptainer_freshness.errors import FreshnessError

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.policies import Policies
    from snakemake_apptainer_freshness.actions.status import StatusRow
    from snakemake_apptainer_freshness.actions.workflow import Workflow
    from snakemake_apptainer_freshness.lockfile import Lock
    from snakemake_apptainer_freshness.policy import Violation
    from snakemake_apptainer_freshness.policy.verification import Signed
    from snakemake_apptainer_freshness.registry.referrers import FoundSignatures
    from snakemake_apptainer_freshness.registry.resolver import Resolver


@dataclass(slots=True, kw_only=True)
class PolicyAnswers:
    """What policies forbid, the signatures that they asked for and that are good, and what lies beside images."""

    violations: "list[Violation]" = field(default_factory=list)
    signed: "dict[str, tuple[Signed, ...]]" = field(default_factory=dict)
    beside: dict[str, "FoundSignatures | FreshnessError"] = field(default_factory=dict)

    def signature_lines(self, reference: str) -> list[str]:
        """Return lines about the signatures of `reference`, for a person."""
        lines = [f"signed by {signed.by}" for signed in self.signed.get(reference, ())]
        signatures = self.beside.get(reference)
        if signatures is None:
            return lines
        if isinstance(signatures, FreshnessError):
            return [*lines, f"its signatures could not be asked for: {signatures.message}"]
        count = output.counted(len(signatures.signatures), "signature")
        return [*lines, f"{count} beside it", *signatures.problems]

    def as_json(self, reference: str) -> dict[str, Any]:
        """Return the signatures of `reference` as JSON."""
        signatures = self.beside.get(reference)
        beside, problems = None, list[str]()
        if isinstance(signatures, FreshnessError):
            problems = [signatures.message]
        elif signatures is not None:
            beside, problems = len(signatures.signatures), list(signatures.problems)
        return {
            "signed": [
                {"by": signed.by, "digest": str(signed.digest), "signature": signed.signature or None}
                for signed in self.signed.get(reference, ())
            ],
            "beside": beside,
            "problem": [output.clean(problem) for problem in problems],
        }


def ask_policies(
    lock: "Lock",
    path: Path,
    workflow: "Workflow | None",
    rows: "Iterable[StatusRow]",
    *,
    offline: bool,
    look: bool,
) -> PolicyAnswers:
    """Return what policies say of the `lock` at `path`, whose images are as `rows` say.

    Without Snakemake the site's alone are known. `look` looks for the signatures of every image, too.
    """
    from snakemake_apptainer_freshness.actions.pinning import LazyResolver
    from snakemake_apptainer_freshness.registry.resolver import Resolver

    asking = LazyResolver(Resolver)
    answers = PolicyAnswers()
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: asking.resolver().close() if asking.resolver.cache_info().currsize else None)
        if (policies := _policies(path, workflow)) is not None:
            ask = None if offline else asking.resolver
            names = dict.fromkeys([*lock.entries, *(workflow.uses if workflow else ())])
            answers.violations += policies.of_names(names)
            _judge(answers, policies, lock, workflow, rows={row.reference: row for row in rows}, ask=ask)
        if look and not offline:
            images = {text: entry for text, entry in lock.entries.items() if entry.reference.scheme.is_registry}
            signatures = dict(
                asking.resolver().signatures((pinned.pinned, pinned.digest) for pinned in images.values())
            )
            answers.beside |= {text: signatures[pinned.pinned, pinned.digest] for text, pinned in images.items()}
    return answers


def _policies(path: Path, workflow: "Workflow | None") -> "Policies | None":
    from snakemake_apptainer_freshness.actions.site import site_files

    files = site_files(path, workflow.snakefile if workflow else None)
    if not (files or (workflow and workflow.options.policy)):
        return None
    from snakemake_apptainer_freshness.actions.policies import Policies
    from snakemake_apptainer_freshness.settings import Options

    return Policies.of(workflow.options if workflow else Options(), files, folder=path.parent)


def _judge(
    answers: PolicyAnswers,
    policies: "Policies",
    lock: "Lock",
    workflow: "Workflow | None",
    *,
    rows: "Mapping[str, StatusRow]",
    ask: "Callable[[], Resolver] | None",
) -> None:
    """Add what `policies` say of what is pinned and of its signatures to `answers`."""
    from snakemake_apptainer_freshness.actions.policies import asking, offers
    from snakemake_apptainer_freshness.actions.signatures import Held
    from snakemake_apptainer_freshness.image.platform import Platform
    from snakemake_apptainer_freshness.settings import Options

    pins, here = dict(lock.entries), Platform.here()
    days = policies.days(pins, asking(ask, platform=here), platform=here)
    answers.violations += policies.of_pins(pins, days, policies.offered(pins, offers(ask)))
    kind = (workflow.options if workflow else Options()).pin
    checks = []
    if policies.want_signatures:
        checks.append(policies.of_signatures(pins, Held(kind=kind, platform=here), ask=ask))
    if policies.want_signed_files:
        from snakemake_apptainer_freshness.actions.sif_signatures import SifFile
        from snakemake_apptainer_freshness.freshness import DiskState
        from snakemake_apptainer_freshness.pin import Pin

        files = {
            text: SifFile(pin=Pin.of(entry, kind=kind), fact=row.verdict.disk)
            for text, entry in pins.items()
            if (row := rows.get(text)) is not None
            and row.verdict is not None
            and row.verdict.disk is not None
            and row.verdict.disk.state is not DiskState.ABSENT  # nothing wrong would run
        }
        checks.append(policies.of_files(files))
    for check in checks:
        answers.violations += check.violations
        answers.signed |= {text: (*answers.signed.get(text, ()), *signed) for text, signed in check.signed.items()}
