"""Every error that this package raises, in one tree.

An error says what was being done, to what, and what is wrong; its ``hint`` says what a person can do next. Its class
decides the exit status of the command line, so that scripts can tell a finding from a mistake and from an outage::

    FreshnessError
    ├── UsageError               2   wrong use or bad input
    │   ├── InvalidReference         a container reference that breaks the grammar, or is unsafe to write into a rule
    │   ├── InvalidDigest            not a registered algorithm with its exact number of lower-case hex digits
    │   ├── InvalidSettings          an unknown key or value of the configuration
    │   ├── InvalidPolicy            a policy with an unknown key or value, or one that contradicts itself
    │   ├── InvalidLock              a lock file that is damaged, contradictory, or of a newer major version
    │   ├── InvalidBundle            a bundle that is cut short, altered, hostile, or of a newer version
    │   ├── InvalidArchive           the archive of an audit that is incomplete, altered, or hostile
    │   ├── InvalidRecord            the record of a run that is damaged, or of a newer version
    │   ├── InvalidLogin             a credential file or helper that cannot be understood
    │   ├── InvalidRegistriesConf    a registries.conf that cannot be understood
    │   ├── MissingProgram           a program (apptainer) that is not there, or too old
    │   └── UnsupportedSnakemake     a Snakemake that lacks a method this plugin wraps
    ├── PinningFailed            *   references that cannot be pinned, each with its own error; the worst exit status
    ├── Finding                  1   everything was asked, and the answer is bad
    │   ├── NotLocked                a reference that the lock file lacks, where the mode forbids adding it
    │   ├── PolicyViolated           an image that the workflow's or the site's policy does not allow
    │   ├── TagMoved                 a tag that moved, where the settings make that an error
    │   ├── Unpinnable               a source that has no digest, where the settings make that an error
    │   ├── CorruptImage             a file that is not a sound SIF
    │   └── UnprovenImage            an image file that is not provably what its pin names
    └── SourceError              3   a registry or a file could not be asked
        ├── LocalIOError             a file or folder that cannot be read or written
        ├── PullFailed               Apptainer could not fetch an image
        └── RegistryError            a registry could not be asked, or its answer cannot be used
            ├── ConnectionFailed     no connection: refused, reset, or a proxy that failed
            │   ├── NameNotFound         the host name does not resolve
            │   └── ProxyRefused         the proxy wants a login, or forbids the host
            ├── Offline              no network was asked for, so the registry was not asked
            ├── TimedOut             no answer, or not all of it, in time
            ├── TLSFailed            the certificate or the handshake; also plain http where https was expected
            ├── NotFound             the registry says that the tag, digest or repository does not exist
            ├── Unauthorized         the registry wants a login, or refuses the one it was given
            ├── Denied               the login is good, but may not read this repository
            ├── RateLimited          too many requests (429)
            ├── ServerFailed         the registry failed (5xx) and kept failing
            ├── PolicyRefused        we refuse to follow: a redirect, a realm, a blocked registry
            ├── Unpullable           it is there, but nothing that Apptainer can pull: an artifact, schema 1
            └── DamagedAnswer        an answer that is malformed, too large, or not what its digest says

No secret ever stands in ``str(error)``: text that comes from outside goes through :func:`redact` first.
"""

import re
from collections.abc import Mapping

# Compiled when text is redacted first, and not in each job that has nothing to tell.
_USERINFO = r"(?<=://)[^/?#\s]*@(?!sha(?:256|512):)"
_CREDENTIALS = (
    r"(?i)(\b(?:authorization|proxy-authorization)\b\s*[:=]\s*(?:basic|bearer)?\s*|\bbearer\s+|\bbasic\s+"
    r"|[?&](?:[\w-]*token|passw(?:or)?d|secret|[\w-]*signature|sig|jwt|auth|(?:api|access|private)[_-]?key"
    r"|x-(?:amz|goog|oss|cos)-[\w-]+)=)[^\s,;&\"']+"
)
_CONTROL = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"


def redact(text: str) -> str:
    """Return `text` without user information in URLs, credentials in headers or queries, and control characters.

    What comes from a registry, a helper program or a configuration file passes through here before a person sees it.
    """
    text = re.sub(_USERINFO, "", text)
    text = re.sub(_CREDENTIALS, r"\1[redacted]", text)
    return re.sub(_CONTROL, "\N{REPLACEMENT CHARACTER}", text)


def one_line(text: object) -> str:
    """Return `text` as :func:`redact` leaves it, on one line: for a name that another user may have given to a file."""
    return redact(" ".join(str(text).split()))


class FreshnessError(Exception):
    """Base of all errors of this package.

    `message` says what was being done, to what, and what is wrong; `hint` what a person can do next (may be empty).
    """

    exit_status = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = redact(message)
        self.hint = redact(hint)
        super().__init__(self.message, self.hint)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(FreshnessError):
    """Wrong use or bad input."""


class InvalidReference(UsageError):
    """A container reference that breaks the grammar, or is unsafe to write into a rule."""


class InvalidDigest(UsageError):
    """Not a registered algorithm with its exact number of lower-case hex digits."""


class InvalidSettings(UsageError):
    """An unknown key or value of the configuration."""


class InvalidPolicy(UsageError):
    """A policy with an unknown key or value, or one that contradicts itself."""


class InvalidLock(UsageError):
    """A lock file that is damaged, contradictory, or of a newer major version."""


class InvalidBundle(UsageError):
    """A bundle that is cut short, altered, hostile, or of a newer version."""


class InvalidArchive(UsageError):
    """The archive of an audit that is incomplete, altered, or hostile."""


class InvalidRecord(UsageError):
    """The record of a run that is damaged, or of a newer version."""


class InvalidLogin(UsageError):
    """A credential file or helper that cannot be understood."""


class InvalidRegistriesConf(UsageError):
    """A registries.conf that cannot be understood."""


class MissingProgram(UsageError):
    """A program that is not there, or too old."""


class UnsupportedSnakemake(UsageError):
    """A Snakemake that lacks a method this plugin wraps."""


class PinningFailed(FreshnessError):
    """References that cannot be pinned, with the error of each in `failures`; the exit status is the worst of them."""

    def __init__(self, failures: Mapping[str, FreshnessError]) -> None:
        self.failures = dict(failures)
        self.exit_status = max(error.exit_status for error in failures.values())
        lines = [f"{reference}: {error.message}" for reference, error in failures.items()]
        hints = dict.fromkeys(error.hint for error in failures.values() if error.hint)
        self.headline = (
            "cannot pin a container image" if len(lines) == 1 else f"cannot pin {len(lines)} container images"
        )
        super().__init__("\n  ".join([self.headline + ":", *lines]), hint="\n".join(hints))


class Finding(FreshnessError):
    """Everything was asked, and the answer is bad."""

    exit_status = 1


class NotLocked(Finding):
    """A reference that the lock file lacks, where the mode forbids adding it."""


class PolicyViolated(Finding):
    """An image that the workflow's or the site's policy does not allow."""


class TagMoved(Finding):
    """A tag that moved, where the settings make that an error."""


class Unpinnable(Finding):
    """A source that has no digest, where the settings make that an error."""


class CorruptImage(Finding):
    """A file that is not a sound SIF; the message is the reason, and does not name the file."""


class UnprovenImage(Finding):
    """An image file that is not provably what its pin names."""


class SourceError(FreshnessError):
    """A registry or a file could not be asked."""

    exit_status = 3


class LocalIOError(SourceError):
    """A file or folder that cannot be read or written."""


class PullFailed(SourceError):
    """Apptainer could not fetch an image."""


class RegistryError(SourceError):
    """A registry could not be asked, or its answer cannot be used."""


class Offline(RegistryError):
    """No network was asked for, so the registry was not asked."""


class ConnectionFailed(RegistryError):
    """No connection: refused, reset, or a proxy that failed."""


class NameNotFound(ConnectionFailed):
    """The host name does not resolve."""


class ProxyRefused(ConnectionFailed):
    """The proxy wants a login, or forbids the host."""


class TimedOut(RegistryError):
    """No answer, or not all of it, in time."""


class TLSFailed(RegistryError):
    """The certificate or the handshake; also plain http where https was expected."""


class NotFound(RegistryError):
    """The registry says that the tag, digest or repository does not exist."""


class Unauthorized(RegistryError):
    """The registry wants a login, or refuses the one it was given."""


class Denied(RegistryError):
    """The login is good, but may not read this repository."""


class RateLimited(RegistryError):
    """Too many requests (429); `retry_after` seconds from now they may be allowed again, where the registry said so."""

    retry_after: float = 0.0


class ServerFailed(RegistryError):
    """The registry failed (5xx) and kept failing; `retry_after` as in :class:`RateLimited`."""

    retry_after: float = 0.0


class PolicyRefused(RegistryError):
    """We refuse to follow: a redirect, a realm, a blocked registry."""


class Unpullable(RegistryError):
    """It is there, but nothing that Apptainer can pull: an artifact, schema 1."""


class DamagedAnswer(RegistryError):
    """An answer that is malformed, too large, or not what its digest says."""
