"""The command line of a run, as it is recorded: what looks like a secret is taken out. Pure.

No rule can tell what is a secret; so what is named like a secret is taken for one. The value of an option or a
``key=value`` whose name says password, token, secret, credential or key is left out to the end of its argument,
wherever in the argument the name stands (in ``--config 'db={"password": …}'``, or in a submit command); so is every
argument after such an option, and whatever the environment holds under such a name. Logins in URLs go, too.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from snakemake_apptainer_freshness.errors import redact
from snakemake_apptainer_freshness.settings import RECORDS

_SECRET: Final = re.compile(
    r"passw|passphrase|(?<![a-z])pass(?![a-z])|(?<![a-z])pwd(?![a-z])|secret|token|credential|bearer"
    r"|(?<![a-z])auth(?![a-z])|authorization|(?:api|access|account|private|signing|encryption|ssh)[._-]?key",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[\w.-]+")
_ASSIGNS: Final = re.compile(r"[\"']?\s*[=:]\s*")
_SPACE: Final = re.compile(r"\s+")
_HIDDEN: Final = "[redacted]"
_OF_THE_SHELL: Final = frozenset({"PWD"})
"""What is named like a secret in every environment, and is none: the folder in which the shell is."""
_SHORTEST_SECRET: Final = 6
"""A shorter value of the environment, such as ``true``, would take out what it only happens to equal."""


def kept(arguments: Sequence[str], environment: Mapping[str, str], *, ours: str) -> tuple[str, ...]:
    """Return what may be kept of `arguments`; `environment` is where they may have their secrets from.

    The entry of ``--config`` that `ours` names is left out: it is of use to our own processes alone.
    """
    secrets = sorted(
        (value for name, value in environment.items() if len(value) >= _SHORTEST_SECRET and _is_secret(name)),
        key=len,
        reverse=True,
    )
    words = _kept([argument for argument in arguments if not argument.startswith(f"{ours}=")], secrets)
    return tuple(argument for argument, _ in zip(words, range(RECORDS.arguments), strict=False))


def _is_secret(variable: str) -> bool:
    return variable not in _OF_THE_SHELL and _SECRET.search(variable) is not None


def _kept(arguments: Sequence[str], secrets: Sequence[str]) -> Iterator[str]:
    hides = False
    for argument in arguments:
        is_option = argument.startswith("-")
        if hides and not is_option:
            yield _HIDDEN
            continue
        hides = is_option and _WORD.fullmatch(argument) is not None and _SECRET.search(argument) is not None
        yield _without_secrets(argument, secrets)


def _without_secrets(argument: str, secrets: Sequence[str]) -> str:
    argument = argument[: RECORDS.text]
    for secret in secrets:
        argument = argument.replace(secret, _HIDDEN)
    argument = redact(_cut(argument))
    return argument if len(argument) <= RECORDS.argument else argument[: RECORDS.argument] + "…"


def _cut(argument: str) -> str:
    """Return `argument` up to the first value whose name is that of a secret.

    In time that grows with its length alone.
    """
    for word in _WORD.finditer(argument):
        if _SECRET.search(argument, word.start(), word.end()) is None:
            continue
        follows = _ASSIGNS.match(argument, word.end())
        if follows is None and word[0].startswith("-"):
            follows = _SPACE.match(argument, word.end())
        if follows is not None and follows.end() < len(argument):
            return argument[: follows.end()] + _HIDDEN
    return argument
