"""Pin container images by digest, and prove that the image that runs is the one that was pinned.

This package pins the container references of a Snakemake workflow to digests in a lock file, proves that the image
files that run are what the digests name, and records it. Every reference has three witnesses: the lock (what was
agreed), the registry (what is served now) and the disk (what would be executed). The program asks each, compares, and
acts.

Importing this package loads nothing else; Snakemake imports it at every start of every job.
"""

CONFIG_KEY = "apptainer_freshness"
"""The key of a workflow's configuration that turns this plugin on."""

ENVIRONMENT_VARIABLE = "SNAKEMAKE_APPTAINER_FRESHNESS"
"""Sets the mode alone; for workflows whose configuration schema is closed."""


def install() -> None:
    """Make Snakemake's Python API look for the ``apptainer_freshness`` flag of every workflow it loads from now on.

    The command line of Snakemake needs no call: it discovers the plugin package, which calls this. Calling it twice
    does nothing more. Without the flag a workflow runs as if this package were not there.
    """
    from snakemake_apptainer_freshness.engine.install import install as install_into_snakemake

    install_into_snakemake()


__all__ = ["CONFIG_KEY", "ENVIRONMENT_VARIABLE", "install"]
