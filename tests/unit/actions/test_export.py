"""The forms of an export: each is read as its tool reads it, and nothing is left out in silence."""

import json

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from snakemake_apptainer_freshness.actions.export import FORMS, export
from snakemake_apptainer_freshness.lockfile import Lock
from tests.support.pins import lock_entry

ONE, TWO = ("sha256:" + letter * 64 for letter in "ab")
TOOL, HUB, WEB, FILE = (
    "docker://quay.io/team/tool:1.0",
    "docker://ubuntu:24.04",
    "https://h.example/x.sif",
    "images/x.sif",
)
MIXED = Lock.of([lock_entry(TOOL, ONE), lock_entry(HUB, TWO), lock_entry(WEB, ONE), lock_entry(FILE, ONE)])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lock", [MIXED, Lock()], ids=["mixed", "empty"])
def test_every_reference_is_in_the_text_or_named_as_left_out(form, lock):
    made = export(lock, form, target="mirror.example")

    for entry in lock:
        is_named = (
            entry.digest.hex in made.text if entry.reference.scheme.is_registry else entry.pinned.text in made.text
        )
        assert is_named or entry.reference.text in made.left_out
    assert made == export(lock, form, target="mirror.example")


def test_a_list_has_a_pinned_reference_a_line():
    assert export(MIXED, "list").text.splitlines() == [entry.pinned.text for entry in MIXED]


def test_skopeo_gets_digests_by_registry_and_repository():
    made = export(Lock.of([*MIXED, lock_entry("docker://quay.io/team/tool:same", ONE)]), "skopeo")

    assert yaml.safe_load(made.text) == {
        "docker.io": {"images": {"library/ubuntu": [TWO]}},
        "quay.io": {"images": {"team/tool": [ONE]}},
    }
    assert sorted(made.left_out) == sorted([FILE, WEB])
    assert yaml.safe_load(export(Lock(), "skopeo").text) == {}


def test_regsync_copies_each_image_below_the_name_of_its_registry():
    read = yaml.safe_load(export(MIXED, "regsync", target="mirror.example:5000/lab/").text)

    assert read["version"] == 1
    assert {one["source"]: one["target"] for one in read["sync"]} == {
        f"docker.io/library/ubuntu@{TWO}": "mirror.example:5000/lab/docker.io/library/ubuntu:24.04",
        f"quay.io/team/tool@{ONE}": "mirror.example:5000/lab/quay.io/team/tool:1.0",
    }
    assert {one["type"] for one in read["sync"]} == {"image"}
    assert yaml.safe_load(export(Lock(), "regsync", target="m.example").text) == {"version": 1, "sync": []}


def test_two_images_of_one_tag_do_not_replace_each_other_in_a_mirror():
    both = Lock.of([lock_entry(TOOL, ONE), lock_entry(f"{TOOL}@{TWO}", TWO)])
    targets = [one["target"] for one in yaml.safe_load(export(both, "regsync", target="m.example").text)["sync"]]

    assert targets == ["m.example/quay.io/team/tool:1.0", "m.example/quay.io/team/tool:1.0-bbbbbbbbbbbb"]


@pytest.mark.parametrize("lock", [MIXED, Lock()], ids=["mixed", "empty"])
def test_the_bill_of_materials_is_cyclonedx_by_its_own_schema(lock):
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(export(lock, "cyclonedx").text) is None


def test_a_component_of_the_bill_has_its_digest_and_package_url():
    components = {one["bom-ref"]: one for one in json.loads(export(MIXED, "cyclonedx").text)["components"]}
    tool = components[f"docker://quay.io/team/tool@{ONE}"]

    assert tool["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert (tool["name"], tool["version"]) == ("quay.io/team/tool", "1.0")
    assert PackageURL.from_string(tool["purl"]) == PackageURL(
        type="oci", name="tool", version=ONE, qualifiers={"repository_url": "quay.io/team/tool", "tag": "1.0"}
    )
    assert "purl" not in components[WEB]


def test_nextflow_gets_a_map_whose_names_are_those_of_the_workflow_without_docker():
    text = export(MIXED, "nextflow").text

    assert f"'quay.io/team/tool:1.0': 'quay.io/team/tool@{ONE}'" in text
    assert f"'{WEB}': '{WEB}'" in text
    assert "containers = [\n        :\n    ]" in export(Lock(), "nextflow").text  # an empty map in Groovy


def test_galaxy_gets_a_resolver_that_maps_each_tool_once():
    other = lock_entry("docker://quay.io/other/tool:2", TWO)
    made = export(Lock.of([*MIXED, other]), "galaxy")
    [resolver] = yaml.safe_load(made.text)

    assert resolver["type"] == "mapping"
    assert {(one["tool_id"], one["container_type"], one["identifier"]) for one in resolver["mappings"]} == {
        ("tool", "singularity", other.pinned.text),
        ("ubuntu", "singularity", f"docker://docker.io/library/ubuntu@{TWO}"),
    }
    assert sorted(made.left_out) == sorted([FILE, WEB, TOOL])
    assert yaml.safe_load(export(Lock(), "galaxy").text) == [{"type": "mapping", "mappings": []}]
