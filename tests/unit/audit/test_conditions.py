"""What the file of an image is now, whatever its record says, and what it was in each run."""

import pytest

from snakemake_apptainer_freshness.audit.conditions import conditions, histories, proven
from tests.support import audits, pins, records


@pytest.fixture
def workdir(tmp_path):
    return tmp_path / "work"


def now(workdir, image):
    """What the image of one run is now."""
    found = conditions(workdir, [records.run(workdir, 1, images=(image,))])
    return found[image.pinned]


def test_a_proven_file_that_was_not_touched_is_verified_with_its_hash(workdir):
    image = records.image(workdir)
    found = now(workdir, image)
    assert (found.state, found.sha256, found.ran, found.path) == ("verified", image.sha256, image.sha256, image.path)


def test_a_changed_file_is_not_what_it_was(workdir):
    image = records.image(workdir)
    pins.flip_seven_bytes(workdir / image.path)
    found = now(workdir, image)
    assert (found.state, found.sha256) == ("altered", "")


def test_a_file_of_which_nothing_is_known_is_held_to_the_hash_in_the_record(workdir):
    image = records.image(workdir, recorded=False)
    same, other = now(workdir, image), now(workdir, records.image(workdir, recorded=False, sha256="0" * 64))
    assert (same.state, same.sha256) == ("bound", image.sha256)
    assert same.detail.endswith("; it is the file that ran")
    assert (other.state, other.detail) == ("altered", "its SHA-256 is not the one that the run recorded")


def test_a_file_of_another_size_than_recorded_is_altered_whatever_its_hash(workdir):
    assert now(workdir, records.image(workdir, recorded=False, size=1)).state == "altered"


def test_an_image_that_names_no_digest_is_unbound_or_absent(workdir):
    image = records.image(workdir, digest="", pinned="docker://quay.io/team/tool:1.0")
    assert (now(workdir, image).state, now(workdir, image).detail) == ("unbound", "it names no digest")
    (workdir / image.path).unlink()
    assert now(workdir, image).state == "absent"


@pytest.mark.parametrize("wrong", [{"digest": "sha256:short"}, {"platform": "toaster"}, {"pinned": "docker://"}])
def test_a_record_that_cannot_be_right_is_told_and_no_condition_is_made_up(workdir, wrong):
    found = now(workdir, records.image(workdir, **wrong))
    assert (found.state, found.sha256) == ("", "")
    assert found.detail.startswith("its record is wrong: ")


def test_a_run_that_knew_no_path_of_its_image_gives_no_condition(workdir):
    image = records.image(workdir, path="")
    assert conditions(workdir, [records.run(workdir, 1, images=(image,))]) == {}


def test_of_several_runs_the_file_that_the_last_one_ran_is_looked_at(workdir):
    image = records.image(workdir)
    gone = records.image(workdir, path=str(workdir / "gone.simg"))
    runs = [records.run(workdir, 1, images=(gone,)), records.run(workdir, 2, images=(image,))]
    assert conditions(workdir, runs)[image.pinned].state == "verified"
    assert conditions(workdir, runs[::-1])[image.pinned].state == "absent"


def test_proven_is_what_this_user_has_proven_by_its_hash_also_where_the_file_is_gone(workdir):
    image = records.image(workdir)
    (workdir / image.path).unlink()
    claimed = records.image(workdir, recorded=False, sha256="0" * 64)
    runs = [records.run(workdir, 1, images=(image,)), records.run(workdir, 2, images=(claimed,))]
    assert proven(runs) == {(runs[0].id, image.pinned)}
    pins.forget_all()
    assert proven(runs) == frozenset()


def test_a_content_url_names_its_own_proof(workdir):
    digest = f"sha256:{'e' * 64}"
    image = audits.image(pinned=f"library://team/tools/tool:sha256.{'e' * 64}", digest=digest, sha256="e" * 64)
    run = records.run(workdir, 1, images=(image,))
    assert proven([run]) == {(run.id, image.pinned)}


def test_a_history_has_each_reference_with_its_jobs_rules_and_outputs(workdir):
    old, new = audits.image(word="old"), audits.image(word="new", remote="moved")
    first = audits.run(1, audits.job(1, "b", "x", ran=old), images=(old,))
    second = audits.run(
        2, audits.job(1, "a", "y", ran=new), audits.job(2, "a", "z", ran=new), images=(new, audits.image(audits.FASTP))
    )
    outputs = [
        audits.audited(job.outputs[0].path, "proven", "", run, job) for run in (first, second) for job in run.jobs
    ]
    fastp, salmon = histories("/w", [first, second], outputs, {})
    assert (fastp.reference, fastp.outputs, fastp.rules) == (audits.FASTP, 0, ())
    assert (salmon.outputs, salmon.rules, salmon.now) == (3, ("a", "b"), "")
    assert [(one.run, one.digest, one.remote, one.jobs) for one in salmon.sightings] == [
        (first.id, old.digest, "current", 1),
        (second.id, new.digest, "moved", 2),
    ]


def test_today_is_that_of_the_image_that_ran_last(workdir):
    image = records.image(workdir)
    runs = [records.run(workdir, 1, images=(image,))]
    [history] = histories(str(workdir), runs, [], conditions(workdir, runs))
    assert history.now == "verified"
    assert history.now_detail != ""


@pytest.mark.parametrize("name", ["a\0b", "a" * 5000], ids=["null", "long"])
@pytest.mark.parametrize("digest", [audits.digest("salmon"), ""], ids=["pinned", "unpinned"])
def test_a_path_that_no_file_can_have_is_no_condition_of_an_image_and_no_failure(workdir, name, digest):
    """A hostile record may name any; its audit goes on."""
    changes = {} if digest else {"digest": "", "pinned": audits.SALMON}
    run = records.run(workdir, 1, images=(audits.image(path=f"{workdir}/{name}", **changes),))
    [condition] = conditions(workdir, [run]).values()
    assert condition.state != "verified"
