"""What an archive of an audit looks like inside: the names in it, the table of its outputs, and a text for people.

An archive is a bag (:mod:`.store.bag`). Its payload:

* ``images/``: an unpacked bundle (:mod:`.store.bundle_folder`): the lock, and the layers of all that it names
* ``project/``: the work directory, as far as it was taken: the workflow, the lock, the records of all runs with their
  seals; ``workflow/``, where the Snakefile lies outside of it
* ``crate/``: the RO-Crate of the results, with the SHA-256 of those that a record has
* ``archive.json``: what each output was made of; ``README.txt``: how to use all of this without this program, too
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from snakemake_apptainer_freshness.common.tables import Damaged, NewerVersion, Table, read_json
from snakemake_apptainer_freshness.errors import InvalidArchive

IMAGES: Final = "images"
PROJECT: Final = "project"
WORKFLOW: Final = "workflow"
CRATE: Final = "crate"
TABLE: Final = "archive.json"
README: Final = "README.txt"
VERSION: Final = 1
_KEYS: Final = frozenset({"workdir", "snakefile", "lock", "output"})
_OUTPUT: Final = frozenset({"path", "inputs"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveTable:
    """What the archive says of itself; all of it is a claim.

    `workdir` is where it was made; `snakefile` and `lock` are where these lie in it. `inputs` says of each output what
    Snakemake's metadata had as its inputs.
    """

    workdir: str
    snakefile: str
    lock: str
    inputs: Mapping[str, Sequence[str]]

    def dumps(self) -> bytes:
        """Return the table as it is written."""
        outputs = [{"path": path, "inputs": list(inputs)} for path, inputs in sorted(self.inputs.items())]
        table = {
            "version": VERSION,
            "workdir": self.workdir,
            "snakefile": self.snakefile,
            "lock": self.lock,
            "output": outputs,
        }
        return (json.dumps(table, indent=1) + "\n").encode()

    @classmethod
    def loads(cls, content: bytes) -> Self:
        """Return the table that `content` spells.

        Raises
        ------
        InvalidArchive
            where it is none, or of a newer version.
        """
        try:
            table = Table.versioned(read_json(content), VERSION, _KEYS)
            rows = table.children("output", _OUTPUT)
            return cls(
                workdir=table.text("workdir"),
                snakefile=table.text("snakefile"),
                lock=table.text("lock"),
                inputs={row.text("path"): row.texts("inputs") for row in rows},
            )
        except NewerVersion as error:
            raise InvalidArchive(
                f"the archive cannot be used: {error}", hint="upgrade snakemake-apptainer-freshness"
            ) from None
        except Damaged as error:
            raise InvalidArchive(
                f"the archive cannot be used: {TABLE} is damaged: {error}", hint="copy it again from where it came"
            ) from None


def readme(table: ArchiveTable, answer: str) -> bytes:
    """Return the text that says what the archive is, for people who have nothing but it."""
    snakefile = table.snakefile.removeprefix(f"{PROJECT}/")
    option = f" -s {snakefile}" if snakefile != "Snakefile" else ""
    where = f"-s ../{table.snakefile}" if table.snakefile.startswith(f"{WORKFLOW}/") else option.strip()
    return _README.format(answer=answer, run=f"snakemake {where}".strip(), lock=table.lock).encode(errors="replace")


_README: Final = """\
The archive of a Snakemake workflow's runs, made by apptainer-freshness.

{answer}

This folder is in BagIt form (RFC 8493). To check that nothing was damaged, in the folder above:

    sha256sum --check --quiet manifest-sha256.txt

What is in it:

    project/      the work directory: the workflow's files, the lock ({lock}), and the records
                  of all runs, .snakemake/apptainer-freshness/runs/, with their seals
    workflow/     the workflow, where it lies outside of the work directory
    images/       all container images that the lock names, as layers (OCI image layout)
    crate/        what was made by what: a Workflow Run RO-Crate, with checksums of the results
    archive.json  what each output was made of

To run it again, without any registry:

    apptainer-freshness audit --replay ARCHIVE       says whether each output could be made again
    cp -r ARCHIVE/data/. there; cd there/project
    apptainer-freshness bundle load ../images --lockfile ../{lock}
    {run} --sdm apptainer --config apptainer_freshness=frozen --cores 1

Without these programs: the layers in images/ are what podman, skopeo, crane, oras and Apptainer read, each named by its
own SHA-256; images/index.json has the images by name.
"""
