"""Names the versions of Snakemake and Python that the matrix of tests has run; ``make matrix`` writes this module."""

from typing import Final

SNAKEMAKES: Final = ("9.0.1", "9.3.5", "9.5.1", "9.9.0", "9.14.8", "9.20.0", "9.24.0", "9.27.1")
PYTHONS: Final = ("3.11", "3.12", "3.13")
