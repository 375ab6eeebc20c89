"""Two people pull one digest, each in a home and with a cache of their own: do they get the same file?

Apptainer can write the same one from 1.5 on. Whatever the version that is here does, we have to say just that of it.
"""

import json
import sys
import time

from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import images
from tests.support.registry import RealRegistry
from tests.support.workflow import READS_MESSAGE, Workspace

CLI = [sys.executable, "-c", "from snakemake_apptainer_freshness.cli import main; main()"]


def test_what_is_said_of_image_files_is_what_apptainer_does(tmp_path):
    people = [Workspace(tmp_path / name, tmp_path / f"home of {name}") for name in ("ada", "grace")]
    said = []
    with RealRegistry(tmp_path / "registry") as registry:
        images.push(images.tiny_image("the same"), registry.host, "team/tool", "1.0")
        for person in people:
            person.write("Snakefile", READS_MESSAGE.format(image=f"docker://{registry.host}/team/tool:1.0"))
            person.run(*CLI, "lock")
            person.run(*CLI, "pull")
            [entry] = person.lock()
            image = image_path(person.folder / ".snakemake/singularity", entry.pinned.text)
            said.append(json.loads(person.run(*CLI, "inspect", image, "--json").stdout))
            time.sleep(1.1)  # times in a SIF are whole seconds
    ada, grace = said
    can = Apptainer.find(people[0].environment).is_reproducible

    assert [ada["state"], grace["state"]] == ["verified", "verified"]
    assert [ada["reproducible"], grace["reproducible"]] == [can, can]
    assert (ada["sha256"] == grace["sha256"]) is can
    [doctor] = [
        one
        for one in json.loads(people[0].run(*CLI, "doctor", "--json").stdout)["versions"]
        if one["name"] == "apptainer"
    ]
    assert doctor["reproducible"] is can
