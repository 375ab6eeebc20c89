"""Which references a session pins, when, and how it says where a reference comes from."""

from types import SimpleNamespace

import pytest
from snakemake.exceptions import WorkflowError

from snakemake_apptainer_freshness.engine.session import Session
from snakemake_apptainer_freshness.errors import NotFound, PinningFailed

ONE, TWO = "docker://quay.io/team/one:1", "docker://quay.io/team/two:2"


class Rule:
    snakefile, lineno = "Snakefile", 7

    def __init__(self, name, image):
        self.name, self.container_img = name, image

    def expand_container_img(self, wildcards):
        return self.container_img


class Dag:
    def __init__(self, *rules):
        self.jobs = [SimpleNamespace(rule=rule, wildcards_dict={}) for rule in rules]
        self.done = []

    def update_container_imgs(self):
        self.done.append("collect")

    def pull_container_imgs(self):
        self.done.append("pull")


class Pins:
    """Pins everything, and remembers what it was asked for."""

    def __init__(self, *dead):
        self.dead, self.attempted, self.ensured = dead, [], []

    def attempt(self, references):
        self.attempted += references

    def ensure(self, references):
        self.ensured += references
        failures = {text: NotFound("it is gone") for text in references if text in self.dead}
        if failures:
            raise PinningFailed(failures)

    def pinned(self, reference):
        return f"pinned {reference}"

    def table(self):
        return {}

    def images(self):
        return {}


class Images:
    def __init__(self):
        self.done = []

    def guard(self, images):
        self.done.append("guard")

    def provide(self, images, pull, verdicts):
        self.done.append("provide")
        return pull()


def session(dag, pins, *rules):
    workflow = SimpleNamespace(dag=dag, rules=rules, linemaps={"Snakefile": {7: 9}})
    return Session(workflow, pins, Images())


def build(session):
    """Build the DAG as Snakemake does, which collects its images then."""
    dag = session.workflow.dag
    session.build_dag(lambda: [dag.update_container_imgs()])


def test_rules_are_pinned_before_the_dag_and_jobs_when_it_collects_its_images():
    needed, other = Rule("a", ONE), Rule("b", TWO)
    dag, pins = Dag(needed), Pins()
    made = session(dag, pins, needed, other)
    build(made)
    assert pins.attempted == [ONE, TWO]
    assert pins.ensured == [ONE]
    assert made.needed == {ONE}
    assert (dag.done, made._images.done) == (["collect"], ["guard"])
    assert needed.expand_container_img({}) == f"pinned {ONE}"


def test_images_are_proven_before_snakemake_fetches_the_rest():
    dag = Dag()
    made = session(dag, Pins())
    made.build_dag(lambda: None)
    dag.pull_container_imgs()
    assert (made._images.done, dag.done) == (["provide"], ["pull"])


def test_only_what_a_job_needs_stops_the_run():
    needed, other = Rule("a", ONE), Rule("b", TWO)
    dag = Dag(needed)
    build(session(dag, Pins(TWO), needed, other))
    dag = Dag(needed)
    with pytest.raises(WorkflowError, match=r"rule a in Snakefile, line 9\): it is gone"):
        build(session(dag, Pins(ONE), needed, other))


def test_a_place_is_named_by_its_first_rule_and_the_number_of_others():
    rules = [Rule("a", ONE), Rule("b", ONE), Rule("c", ONE)]
    made = session(Dag(), Pins(), *rules)
    made.build_dag(lambda: None)
    assert made.place_of(ONE) == "rule a in Snakefile, line 9, and 2 more"


def test_a_reference_is_met_once():
    rule = Rule("a", ONE)
    dag, pins = Dag(rule), Pins()
    made = session(dag, pins, rule)
    met = []
    made.on_pinned = met.extend
    made.build_dag(lambda: (dag.update_container_imgs(), dag.update_container_imgs()))
    assert met == [ONE]


def test_a_snakemake_without_the_seams_is_refused_by_name():
    with pytest.raises(WorkflowError, match=r"has no DAG\.update_container_imgs"):
        session(SimpleNamespace(), Pins())
