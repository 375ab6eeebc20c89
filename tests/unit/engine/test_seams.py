import ast
import types
from pathlib import Path

import pytest
from snakemake.common import __version__
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import SharedFSUsage

from snakemake_apptainer_freshness.engine import seams
from snakemake_apptainer_freshness.engine.directives import Rewriting, container_of, static_references
from snakemake_apptainer_freshness.errors import InvalidReference
from tests.support import seams as page
from tests.support.seam_check import has

ENGINE = Path(seams.__file__).parent


def is_since(seam):
    installed, since = (tuple(map(int, text.split(".")[:2])) for text in (__version__, seam.since))
    return installed >= since


@pytest.mark.parametrize("seam", seams.SEAMS, ids=lambda seam: seam.name)
def test_the_installed_snakemake_has_each_name_since_the_version_of_the_table(seam):
    assert has(seam) is is_since(seam)


def test_the_engine_uses_no_private_name_of_snakemake_that_is_not_in_the_table():
    known = {seam.attribute for seam in seams.SEAMS}
    strange = {}
    for path in ENGINE.glob("*.py"):
        tree = ast.parse(path.read_text())
        own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "memory"):
                    continue
                if node.attr not in known | own:
                    strange.setdefault(path.name, set()).add(node.attr)

    assert strange == {}


@pytest.mark.parametrize("path", page.DOCUMENTS, ids=lambda path: path.name)
def test_the_documents_say_what_the_table_and_the_matrix_say(path):
    text = path.read_text()

    assert page.written(path) == text, "run: python -m tests.support.seams"
    assert path == page.NEXT or seams.KNOWN_VERSIONS in text


def test_a_missing_name_is_told_with_the_versions_that_are_known():
    with pytest.raises(WorkflowError, match=rf"Snakemake {__version__} has no DAG.finish\n.*9.0 to .*, by magic, or"):
        seams.require(types.SimpleNamespace(), seams.JOB_ENDS, instead="by magic")


@pytest.mark.parametrize("setting", [SharedFSUsage.SOFTWARE_DEPLOYMENT, "software-deployment"])
def test_a_setting_may_be_a_member_or_its_word(setting):
    assert seams.names([setting]) == {"SOFTWARE_DEPLOYMENT"}


class OldRule:
    """A rule of a Snakemake before 9.5: a job has what stands in `container_img`."""

    def __init__(self, image):
        self.name, self.container_img = "old", image


def pin(reference):
    if "bad" in reference:
        raise InvalidReference("it is bad")
    return f"{reference}@pinned"


def fail(error, rule):
    return WorkflowError(f"{rule.name}: {error.message}")


def test_where_snakemake_asks_no_method_the_directive_is_replaced_and_remembered():
    rule = OldRule("docker://tool:1")
    rewriting = Rewriting([rule], pin=pin, fail=fail)

    assert rule.container_img == "docker://tool:1@pinned"
    assert rewriting.original(rule, {}) == container_of(rule, {}) == "docker://tool:1"
    assert list(static_references([rule])) == [("docker://tool:1", rule)]


@pytest.mark.parametrize("directive", [None, False, "docker://tool:{version}"])
def test_a_directive_that_an_old_snakemake_cannot_run_by_a_pin_stays_as_it_is(directive):
    rule = OldRule(directive)
    Rewriting([rule], pin=pin, fail=fail)

    assert rule.container_img == directive


def test_a_directive_that_cannot_be_pinned_stays_as_it_is_until_a_job_needs_it():
    rule = OldRule("docker://bad")
    Rewriting([rule], pin=pin, fail=fail)

    assert rule.container_img == "docker://bad"
