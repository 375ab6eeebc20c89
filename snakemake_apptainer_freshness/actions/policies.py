"""Policies of a workflow: checking that its images are those that its policies allow.

A policy stands in the workflow's own configuration, and for a whole site in files (:mod:`.site`). Names are checked
before any registry is asked, so that a registry which is not allowed never hears of us; what names are pinned to is
checked once that is known. When an image was made, and for which machine, its configuration says: that is asked for
only where a rule needs it. It is kept in the lock as a hint, for those who read it. What decides is the configuration
that was hashed here, once, and kept as a fact (:mod:`.store.descriptions`): a lock may come with a pull request. So it
is with the platforms that an index has images for (:mod:`.offered`).
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from snakemake_apptainer_freshness.actions.image_content import BlobSource
from snakemake_apptainer_freshness.actions.labels import Details, details
from snakemake_apptainer_freshness.actions.offered import offered
from snakemake_apptainer_freshness.common.files import NotAFile, read_target
from snakemake_apptainer_freshness.errors import FreshnessError, InvalidPolicy, LocalIOError, PolicyViolated
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.policy import (
    Policy,
    Violation,
    check_name,
    check_pin,
    load_site_policy,
    parse_policy,
)
from snakemake_apptainer_freshness.policy.schema import Level
from snakemake_apptainer_freshness.policy.signed_by import files_of
from snakemake_apptainer_freshness.settings import Options
from snakemake_apptainer_freshness.store import descriptions

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.sif_signatures import SifFile
    from snakemake_apptainer_freshness.actions.signatures import Held, SignatureCheck, SignatureSource

    Sources = Callable[[], SignatureSource]

_LARGEST_FILE: Final = 1024 * 1024
_MEND: Final = "put a TOML file with the policy there, or ask who runs this machine"
_PUT_KEY: Final = "put the public key or the trusted root there; a relative path begins beside the policy"

Configurations = Callable[[Iterable[Entry]], Mapping[str, Details]]
"""Asks what the image of each entry says of itself; the answers by reference, without those that failed."""
Offers = Callable[[Iterable[Entry]], Mapping[str, frozenset[Platform]]]
"""Asks for which platforms each entry has images; the answers by reference, without those that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """All policies that hold for a workflow."""

    policies: tuple[Policy, ...] = ()

    @classmethod
    def of(cls, options: Options, files: Iterable[Path], *, folder: Path = Path()) -> Self:
        """Return the policy that `options` have, and those of the site in `files` (:func:`.site.site_files`).

        What a policy names by a relative path lies beside its own file; for the options that is `folder`.

        Raises
        ------
        InvalidPolicy
            where one is not sound.
        LocalIOError
            where a site's file cannot be read.
        """
        policies = [_of_site(path) for path in files]
        if options.policy:
            policies.append(_complete(parse_policy(options.policy, source="the workflow's configuration"), folder))
        return cls(policies=tuple(policy for policy in policies if policy is not None))

    def __bool__(self) -> bool:
        return bool(self.policies)

    @property
    def want_signed_files(self) -> bool:
        """Whether any image has to be signed inside of its SIF file."""
        return any(demand.is_inside for policy in self.policies for demand in policy.signed_by)

    @property
    def want_signatures(self) -> bool:
        """Whether any image has to be signed."""
        return any(policy.signed_by for policy in self.policies)

    def of_names(self, references: Iterable[str]) -> list[Violation]:
        """Return how the names `references` break the policies; what is no reference is an error when it is pinned."""
        violations = []
        for text in references:
            if not _is_reference(text):
                continue
            violations += [violation for policy in self.policies for violation in check_name(policy, text)]
        return violations

    def days(self, pins: Mapping[str, Entry | None], ask: Configurations, *, platform: Platform) -> dict[str, date]:
        """Return the day on which each image of `pins` was made, as its configuration for `platform` proves.

        `ask` is asked for those that were not proven here yet. Empty where no rule needs it.
        """
        if all(policy.age is None for policy in self.policies):
            return {}
        entries = {
            text: entry for text, entry in pins.items() if entry is not None and entry.reference.scheme is Scheme.DOCKER
        }
        known = {text: descriptions.day_of(entry.digest, platform) for text, entry in entries.items()}
        unknown = [entries[text] for text, day in known.items() if day is None]
        learned = ask(unknown) if unknown else {}
        days = {text: _day(learned[text]) if text in learned else day for text, day in known.items()}
        return {text: date.fromisoformat(day) for text, day in days.items() if day}

    def offered(self, pins: Mapping[str, Entry | None], ask: Offers) -> Mapping[str, frozenset[Platform]]:
        """Return the platforms that each image of `pins` is there for, as what its digest names proves.

        Empty where no rule needs it.
        """
        if not any(policy.platforms for policy in self.policies):
            return {}
        entries = [entry for entry in pins.values() if entry is not None and entry.reference.scheme.is_registry]
        return ask(entries) if entries else {}

    def of_pins(
        self,
        pins: Mapping[str, Entry | None],
        days: Mapping[str, date],
        offered: Mapping[str, frozenset[Platform]],
    ) -> list[Violation]:
        """Return how what references are pinned to breaks the policies; None stands for what cannot be pinned.

        `days` are those of :meth:`days`, `offered` those of :meth:`offered`.
        """
        today = datetime.now(UTC).date()
        return [
            violation
            for text, entry in pins.items()
            for policy in self.policies
            for violation in check_pin(policy, text, entry, today=today, made=days.get(text), offered=offered.get(text))
        ]

    def of_signatures(
        self,
        pins: Mapping[str, Entry | None],
        held: "Held",
        *,
        ask: "Sources | None",
        remember: bool = True,
        sees_files: bool = True,
    ) -> "SignatureCheck":
        """Return how the signatures of what references are pinned to break the policies, and which are good.

        Without `ask` no registry is asked; good signatures are kept for later runs, unless `remember` is off. Where no
        file of an image will be seen (`sees_files`), what has to be signed inside is a violation.
        """
        from snakemake_apptainer_freshness.actions.signatures import check_signatures

        return check_signatures(self.policies, pins, held, ask=ask, remember=remember, sees_files=sees_files)

    def of_files(self, files: "Mapping[str, SifFile]") -> "SignatureCheck":
        """Return how the signatures inside of SIF files break the policies, and which are good."""
        from snakemake_apptainer_freshness.actions.sif_signatures import check_files

        return check_files(self.policies, files)

    def informed(self, entries: Iterable[Entry], ask: Configurations) -> list[Entry]:
        """Return `entries` with what the policies need to know of their images, as far as `ask` gives it.

        Only what changed.
        """
        if not any(policy.wants_configuration for policy in self.policies):
            return []
        missing = {entry.reference.text: entry for entry in entries if self._is_unknown(entry)}
        if not missing:
            return []
        learned = ask(missing.values())
        changed = [_with_configuration(entry, learned[text]) for text, entry in missing.items() if text in learned]
        return [entry for entry in changed if entry != missing[entry.reference.text]]

    def _is_unknown(self, entry: Entry) -> bool:
        if entry.reference.scheme is not Scheme.DOCKER:
            return False
        wants_age = any(policy.age is not None for policy in self.policies)
        wants_platform = any(policy.platforms for policy in self.policies)
        return (wants_age and "created" not in entry.hints) or (wants_platform and not entry.platforms)


def refuse(violations: Iterable[Violation], place: Callable[[str], str] = lambda text: text) -> None:
    """Raise the violations that are errors, all at once; `place` gives a reference with its rule and line.

    Raises
    ------
    PolicyViolated
        where there are any.
    """
    bad = [violation for violation in violations if violation.level is Level.ERROR]
    if bad:
        lines = [f"  {place(violation.reference)}: {violation.text} ({violation.source})" for violation in bad]
        raise PolicyViolated(
            "\n".join(["the policy does not allow:", *lines]),
            hint="name images that it allows, or change the policy where that is yours to do",
        )


def _of_site(path: Path) -> Policy | None:
    try:
        text = read_target(path, _LARGEST_FILE).decode("utf-8")
    except NotAFile as reason:
        raise InvalidPolicy(f"cannot use the site's policy {path}: it is {reason}", hint=_MEND) from None
    except UnicodeDecodeError as error:
        raise InvalidPolicy(f"{path} is not UTF-8 text ({error.reason})", hint=_MEND) from None
    except ValueError:
        raise InvalidPolicy(f"{path} is larger than {_LARGEST_FILE} bytes", hint=_MEND) from None
    except OSError as error:
        raise LocalIOError(
            f"cannot read the site's policy {path}: {error.strerror}", hint="check its permissions"
        ) from error
    policy = load_site_policy(text, source=str(path))
    return None if policy is None else _complete(policy, path.parent)


def _complete(policy: Policy, folder: Path) -> Policy:
    """Return `policy` with the keys and trusted roots that it names by files, which have to be good for a check.

    Raises
    ------
    UsageError
        where the libraries that check signatures are not installed.
    """
    if not any(not demand.is_inside for demand in policy.signed_by):
        return policy
    from snakemake_apptainer_freshness.policy.verification import check_signer, require

    require()
    material = {name: _material(folder / name, policy.source) for name in files_of(policy.signed_by)}
    demands = tuple(demand.with_material(material) for demand in policy.signed_by)
    for signer in dict.fromkeys(signer for demand in demands for signer in demand.signers):
        check_signer(signer, policy.source)
    return replace(policy, signed_by=demands)


def _material(path: Path, source: str) -> bytes:
    try:
        return read_target(path, _LARGEST_FILE)
    except NotAFile as reason:
        raise InvalidPolicy(f"{source}: signed_by names {path}, which is {reason}", hint=_PUT_KEY) from None
    except ValueError:
        raise InvalidPolicy(f"{source}: signed_by names {path}, which is larger than {_LARGEST_FILE} bytes") from None
    except OSError as error:
        raise InvalidPolicy(f"{source}: signed_by names {path}: {error.strerror}", hint=_PUT_KEY) from error


def asking(registry: Callable[[], BlobSource] | None, *, platform: Platform) -> Configurations:
    """Asks registries, for the image of `platform`, or without any `registry` Apptainer's cache.

    What each says was hashed, and is kept.
    """

    def ask(entries: Iterable[Entry]) -> Mapping[str, Details]:
        wanted = list(entries)
        labels = details(wanted, registry() if registry is not None else None, platform=platform)
        with contextlib.suppress(OSError):
            for entry in wanted:
                if entry.pinned.text in labels:
                    descriptions.keep_day(entry.digest, platform, _day(labels[entry.pinned.text]))
        return {entry.reference.text: labels[entry.pinned.text] for entry in wanted if entry.pinned.text in labels}

    return ask


def offers(registry: Callable[[], BlobSource] | None) -> Offers:
    """Asks registries for which platforms images are there, or without any `registry` Apptainer's cache."""
    return lambda entries: offered(entries, registry)


def _day(labels: Details) -> str:
    """Return the day on which an image says that it was made; empty where it does not, or names no day."""
    try:
        return date.fromisoformat(labels.created[: len("2026-01-01")]).isoformat()
    except ValueError:
        return ""


def _with_configuration(entry: Entry, configured: Details) -> Entry:
    hints = dict(entry.hints)
    if day := _day(configured):
        hints["created"] = day
    platforms = entry.platforms
    if not platforms and configured.platform is not None:
        platforms = {configured.platform: entry.digest}
    return replace(entry, hints=hints, platforms=platforms)


def _is_reference(text: str) -> bool:
    try:
        parse(text)
    except FreshnessError:
        return False
    return True
