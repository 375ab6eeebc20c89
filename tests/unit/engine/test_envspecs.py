"""What rules of the next Snakemake say of containers, on objects that have its names."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.engine import envspecs

ONE, TWO = "docker://quay.io/team/one:1", "docker://quay.io/team/two:2"


@dataclass
class Spec:
    """A specification of an environment, which may lie within another or stand for one."""

    image_uri: str = ""
    kind: str = "container"
    within: Any = None
    fallback: Any = None


@dataclass
class Specs:
    """What a rule says."""

    software_spec: Any = None
    legacy_conda_env: Any = None
    legacy_container_img: Any = None
    legacy_env_modules: Any = None

    def interpret(self):
        """What it comes to."""
        return self.software_spec


def rule(**said):
    specs = Specs(**said) if said else None
    return SimpleNamespace(software_env_specs=specs, expand_software_env_specs=said.get("software_spec"))


def ours(image):
    return Spec(f"ours: {image}")


def images(specs):
    return [spec.image_uri for spec in specs]


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("quay.io/team/one:1", ONE),
        ("debian", "docker://debian"),
        (ONE, ONE),
        ("oras://host/a:1", "oras://host/a:1"),
        *[(path, path) for path in ("./a", "../a.b", "/images/a", "~/a.sif", "a.sif", "a/b.simg", "b.img", ".\nsif")],
        ("a.sifx", "docker://a.sifx"),
    ],
)
def test_what_has_no_scheme_is_of_a_registry_unless_it_looks_like_a_file(image, reference):
    assert envspecs.reference_of(image) == reference


@given(st.text())
def test_a_reference_is_the_text_or_the_text_in_a_registry_and_stays_what_it_is(image):
    reference = envspecs.reference_of(image)

    assert reference in (image, f"docker://{image}")
    assert envspecs.reference_of(reference) == reference


@pytest.mark.parametrize(
    ("said", "directive"),
    [
        ({}, None),
        ({"legacy_container_img": "team/one:1"}, "docker://team/one:1"),
        ({"legacy_container_img": len}, len),
        ({"legacy_container_img": ""}, ""),
        ({"legacy_conda_env": "env.yaml"}, None),
        ({"software_spec": len}, len),
        ({"software_spec": Spec(ONE)}, ONE),
        ({"software_spec": Spec(kind="conda", within=Spec(ONE))}, ONE),
        ({"software_spec": Spec(kind="conda", fallback=Spec("a/b:1"))}, "docker://a/b:1"),
        ({"software_spec": Spec(kind="conda")}, None),
    ],
)
def test_the_directive_of_a_rule_is_its_container_wherever_that_stands(said, directive):
    assert envspecs.directive(rule(**said)) == directive


def test_what_a_function_says_for_wildcards_is_asked_of_snakemake():
    says = rule(software_spec=lambda wildcards: Spec(wildcards["image"], fallback=Spec(TWO)))
    assert envspecs.reference_for(says, {"image": "quay.io/team/one:1"}) == ONE


def nested():
    return Spec(kind="conda", within=Spec(ONE, within=Spec(TWO)), fallback=Spec(kind="envmodules", fallback=Spec("3")))


def test_every_container_is_found():
    assert images(envspecs.containers_in(nested())) == [ONE, TWO, "3"]
    assert images(envspecs.containers_in(None)) == []


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({"conda", "container"}, [ONE, TWO]),
        ({"container"}, ["3"]),
        ({"envmodules", "container"}, []),
        ({"conda"}, []),
        (set(), []),
    ],
)
def test_what_runs_are_containers_around_the_first_kind_that_was_chosen(chosen, found):
    assert images(envspecs.that_run(nested(), chosen)) == found


def test_every_container_becomes_ours_and_what_the_rule_said_stays():
    specs = Specs(software_spec=nested())
    made = envspecs.converted(specs, ours).interpret()

    assert images(envspecs.containers_in(made)) == [f"ours: {image}" for image in (ONE, TWO, "3")]
    assert (made.kind, made.fallback.kind) == ("conda", "envmodules")
    assert specs == Specs(software_spec=nested())


def test_a_directive_alone_becomes_ours_without_another_plugin():
    assert envspecs.converted(Specs(legacy_container_img=ONE), ours).interpret() == ours(ONE)


def test_a_directive_beside_another_environment_is_what_snakemake_makes_of_both():
    both = Specs(legacy_container_img=ONE, legacy_conda_env="env.yaml", software_spec=Spec(kind="conda"))
    assert envspecs.converted(both, ours).interpret() == Spec(kind="conda")


def test_a_rule_that_says_nothing_says_nothing():
    assert envspecs.converted(Specs(), ours).interpret() is None
