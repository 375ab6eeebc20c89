"""Pinned references: what the rule that names an image is rewritten to. Pure.

Both the lock and the processes of jobs, which read no lock, hold a rule to this one form.
"""

from typing import NamedTuple

from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.image.scheme import Scheme


class Pinned(NamedTuple):
    """What is run for a `reference`: what the rule gets, and the `digest` that its image is held to, if any."""

    reference: Reference
    pinned: Reference
    digest: Digest | None = None

    @property
    def url(self) -> str:
        """The text that the rule gets."""
        return self.pinned.text


def pinned_form(reference: Reference, digest: Digest) -> Reference:
    """Return what the rule that says `reference` is rewritten to.

    Files and web addresses have no form that carries a digest: they stay as they are, and what was fetched is
    compared with the digest of the lock.

    Raises
    ------
    InvalidReference
        where the source carries no digest of this algorithm.
    """
    if reference.scheme.is_registry or reference.scheme is Scheme.LIBRARY:
        return reference.pinned(digest)
    return reference
