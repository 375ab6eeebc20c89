"""``apptainer-freshness audit``: what it prints, what it writes, and its exit status."""

import gc
import json

import jsonschema
import pytest

from snakemake_apptainer_freshness.audit.render.json import SCHEMA
from snakemake_apptainer_freshness.record import journal
from snakemake_apptainer_freshness.record.run import SignatureRecord
from tests.support import audits, pins, records, ssh
from tests.support.lab import Lab


@pytest.fixture
def audited(place):
    """A workflow's folder with one run, which made two outputs with one proven image."""
    image = records.image(place.folder)
    left = [records.output(place.folder, path) for path in ("a.txt", "b.txt")]
    jobs = [records.job(number, "count", one, ran=image) for number, one in enumerate(left)]
    for one in left:
        records.metadata(place.folder, one.path, container_img_url=image.pinned, endtime=one.mtime_ns / 1e9)
    records.write(place.folder, records.run(place.folder, 1, *jobs, images=(image,)))
    return place


def edit(place, name="b.txt"):
    (place.folder / name).write_text("edited by hand")


def test_nothing_to_report(audited):
    answer = audited.run("audit")

    assert (answer.status, answer.err) == (0, "")
    assert answer.rows[0] == ["answer", "All 2 outputs were made by a proven image."]
    assert [row[:3] for row in answer.rows if row[0] == "output"] == [
        ["output", "proven", "a.txt"],
        ["output", "proven", "b.txt"],
    ]


def test_a_finding_is_status_1_and_stands_before_the_outputs(audited):
    edit(audited)

    answer = audited.run("audit")

    assert answer.status == 1
    assert [row[0] for row in answer.rows] == [
        "answer",
        "count",
        "count",
        "finding",
        "seal",
        "image",
        "output",
        "output",
    ]
    assert answer.rows[3][1:3] == ["error", "output-changed"]
    assert answer.rows[6][1:3] == ["changed", "b.txt"]


def test_a_seal_is_made_and_its_signer_told(audited, tmp_path):
    key = ssh.key(tmp_path / "keys")
    allowed = ssh.allowed(tmp_path, ada=key)
    plain = audited.run("audit")
    sealed = audited.run("audit", "--seal", "--seal-key", str(key), "--allowed-signers", str(allowed))
    document = json.loads(audited.run("audit", "--json", "--allowed-signers", str(allowed)).out)

    assert ["seal", "the newest record is vouched for by nothing: seal it with --seal"] in plain.rows
    assert sealed.status == 0
    assert any(row[0] == "seal" and "is sealed by ada (ED25519 key" in row[1] for row in sealed.rows)
    assert document["seal"][0]["seal"][0]["state"] == "good"
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--seal-key", "id"), "--seal-key says what --seal signs with"),
        (("--seal", "--seal-key", "none"), "the SSH key none is not a file"),
        (("--allowed-signers", "none"), "the allowed signers none are not a file"),
    ],
)
def test_what_cannot_be_sealed_or_checked_is_said(audited, arguments, problem):
    answer = audited.run("audit", *arguments)

    assert answer.status == 2
    assert problem in answer.err


@pytest.mark.parametrize(
    ("word", "status"),
    [("error", 1), ("warning", 1), ("changed", 1), ("bad-image", 0), ("Bad Image", 0), ("proven", 1)],
)
def test_from_which_word_on_it_fails(audited, word, status):
    edit(audited)

    assert audited.run("audit", "--fail-on", word).status == status


def test_a_note_alone_fails_only_whoever_wants_it(place):
    image = records.image(place.folder)
    newer = records.image(place.folder, digest=audits.digest("newer"), path="/gone.simg")
    records.write(
        place.folder, *(records.run(place.folder, n, images=(one,)) for n, one in enumerate((image, newer), 1))
    )

    assert place.run("audit", "--fail-on", "warning").status == 0
    assert place.run("audit", "--fail-on", "note").status == 1


def test_the_document_fits_its_schema_and_says_the_same(audited):
    edit(audited)
    answer = audited.run("audit", "--json")

    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(answer.json)
    assert answer.status == 1
    assert {one["path"]: one["verdict"] for one in answer.json["output"]} == {"a.txt": "proven", "b.txt": "changed"}


def test_a_person_sees_the_answer_first_and_proven_outputs_only_as_a_count(audited, terminal):
    edit(audited)
    terminal()

    text = audited.run("audit").out

    assert text.startswith("1 of 2 outputs made by a proven image; to look at: 1 changed since.\n")
    assert "b.txt" in text
    assert "a.txt" not in text


def test_a_person_is_told_by_whom_an_image_was_signed(place, terminal):
    signature = SignatureRecord(by="key sha256:abc", digest=f"sha256:{'d' * 64}", signature="5" * 64)
    image = records.image(place.folder, signatures=(signature,))
    job = records.job(1, "count", records.output(place.folder, "a.txt"), ran=image)
    records.write(place.folder, records.run(place.folder, 1, job, images=(image,)))
    terminal()

    assert "signed by key sha256:abc, as the last run checked" in place.run("audit").out


def test_a_proven_output_that_a_bad_image_affects_is_shown_with_the_file_between(place, terminal):
    good, bad = records.image(place.folder), records.image(place.folder, disk="altered", sha256="", path="/gone.simg")
    first, second = (records.output(place.folder, path) for path in ("a.txt", "b.txt"))
    records.metadata(place.folder, second.path, input=["a.txt"], endtime=second.mtime_ns / 1e9)
    records.write(
        place.folder,
        records.run(place.folder, 1, records.job(1, "count", first, ran=bad), images=(bad,)),
        records.run(place.folder, 2, records.job(1, "plot", second, ran=good), images=(good,)),
    )
    rows = place.run("audit").rows
    assert [row[1] for row in rows if row[0] == "output" and row[2] == "b.txt"] == ["proven"]

    terminal()

    assert "affected by a bad image through a.txt" in " ".join(place.run("audit").out.split())


def test_a_terminal_is_not_flooded_and_a_pipe_gets_all(place, terminal):
    left = [records.output(place.folder, f"out{number:03d}") for number in range(100)]
    image = records.image(place.folder, disk="bound", sha256="")
    jobs = [records.job(number, "count", one, ran=image) for number, one in enumerate(left)]
    records.write(place.folder, records.run(place.folder, 1, *jobs, images=(image,)))
    assert sum(row[0] == "output" for row in place.run("audit").rows) == 100

    terminal()

    text = place.run("audit").out
    assert "… and 70 more" in text
    assert text.count("\n") < 200


def test_names_from_outside_move_no_cursor(place):
    image = records.image(place.folder)
    names = [audits.QUOTED, audits.SCRIPT, audits.RIGHT_TO_LEFT, audits.LINE_BREAK, audits.BAD_BYTES, "esc\x1b[2J"]
    jobs = [records.job(n, "r", records.output(place.folder, name), ran=image) for n, name in enumerate(names)]
    records.write(place.folder, records.run(place.folder, 1, *jobs, images=(image,)))

    answer = place.run("audit")

    assert sum(row[0] == "output" for row in answer.rows) == len(names)
    assert not any(character in answer.out for character in "\x1b\u202e")
    answer.out.encode()
    assert place.run("audit", "--json").out.isascii()


def test_sarif_names_the_file(audited):
    edit(audited)
    audited.run("audit", "--sarif", "found.sarif")

    [result] = json.loads((audited.folder / "found.sarif").read_text())["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "b.txt"


def test_the_page_and_the_crates_are_written_where_they_are_wanted(audited):
    answer = audited.run("audit", "--html", "audit.html", "--intoto", "statements")

    assert answer.status == 0
    assert "All 2 outputs proven</h1>" in (audited.folder / "audit.html").read_text()
    assert len(list((audited.folder / "statements").iterdir())) == 1


def test_a_file_that_cannot_be_written_is_one_clear_error(audited):
    answer = audited.run("audit", "--sarif", "no/such/folder/x.sarif")

    assert answer.status == 3
    assert "cannot write the SARIF file no/such/folder/x.sarif" in answer.err


def test_no_form_is_written_where_one_of_them_cannot_be_made(audited):
    (audited.folder / "crate").mkdir()
    (audited.folder / "crate" / "mine.txt").write_text("mine")

    answer = audited.run("audit", "--html", "audit.html", "--rocrate", "crate")

    assert answer.status == 2
    assert "crate is there and not empty" in answer.err
    assert not (audited.folder / "audit.html").exists()


def test_an_option_that_says_more_of_a_form_needs_the_form(audited):
    answer = audited.run("audit", "--snakefile", "Snakefile")

    assert (answer.status, answer.out) == (2, "")
    assert "--snakefile needs --rocrate DIR" in answer.err


def test_a_finding_that_is_answered_for_is_shown_and_fails_nothing(audited):
    edit(audited)
    (audited.folder / "audit.toml").write_text(
        'version = 1\n[[acknowledged]]\nfinding = "output-changed"\nsubject = "b.txt"\n'
        'reason = "a typing error"\nwho = "ada"\nuntil = 2999-01-01\n'
    )
    assert audited.run("audit").status == 1  # a file in the folder that is audited speaks for nothing by itself

    answer = audited.run("audit", "--acknowledged", "audit.toml", "--html", "audit.html", "--sarif", "found.sarif")

    assert answer.status == 0
    [finding] = [row for row in answer.rows if row[0] == "finding"]
    assert finding[1:3] == ["error", "output-changed"]
    assert finding[4] == "acknowledged by ada until 2999-01-01: a typing error"
    assert "1 finding acknowledged" in answer.rows[0][1]
    assert "1 finding acknowledged" in (audited.folder / "audit.html").read_text()
    [result] = json.loads((audited.folder / "found.sarif").read_text())["runs"][0]["results"]
    assert result["suppressions"] == [
        {"kind": "external", "justification": "acknowledged by ada until 2999-01-01: a typing error"}
    ]


@pytest.fixture
def twice(audited):
    """The same workflow run again: the pin had moved, and one output came out otherwise."""
    image = records.image(audited.folder, digest=audits.digest("newer"), path="/gone.simg", sha256="")
    left = records.output(audited.folder, "a.txt", b"other")
    records.write(
        audited.folder, records.run(audited.folder, 2, records.job(1, "count", left, ran=image), images=(image,))
    )
    return audited


def test_two_runs_are_compared_instead_of_listing_files(twice, terminal):
    answer = twice.run("audit", "--diff", "1", "2")

    kinds = [row[0] for row in answer.rows]
    assert "output" not in kinds
    assert [row[1:4] for row in answer.rows if row[0] == "change"] == [
        ["image", "pin moved; the image for this platform is the same", pins.pin().reference.text],
        ["output", "another content", "a.txt"],
        ["output", "made by the first alone", "b.txt"],
    ]
    terminal()
    _, _, text = twice.run("audit", "--diff", "1", "2").out.partition("\nRun ")
    assert "1 image, 1 output differ; 0 images and 0 outputs are the same; 1 output is of one run alone." in text
    assert "b.txt" not in text


def test_a_difference_of_a_run_that_is_not_there_is_one_clear_error(twice):
    answer = twice.run("audit", "--diff", "1", "9")

    assert (answer.status, answer.out) == (2, "")
    assert "--diff: there is no run '9'" in answer.err


def test_one_output_of_one_run(audited):
    edit(audited)

    answer = audited.run("audit", "--output", "a.txt", "--run", "20260302", "--since", "2026-03-01")

    assert answer.status == 0
    assert [row[2] for row in answer.rows if row[0] == "output"] == ["a.txt"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run", "1999"], "there is no run 1999"),
        (["--output", "nowhere"], "knows of nowhere"),
        (["--since", "soon"], "--since cannot be 'soon'"),
        (["--fail-on", "disaster"], "--fail-on cannot be 'disaster'"),
        (["missing"], "the work directory missing is not there"),
        (["a.txt"], "the work directory a.txt is not a folder"),
        ([".snakemake"], "no run was recorded in"),
    ],
    ids=["run", "output", "since", "fail-on", "missing", "file", "no records"],
)
def test_wrong_use_is_one_clear_error(audited, arguments, words):
    answer = audited.run("audit", *arguments)

    assert (answer.status, answer.out) == (2, "")
    assert words in answer.err


def test_a_newer_record_is_refused(audited):
    [path] = journal.folder_of(audited.folder).glob("*.json")
    path.write_bytes(path.read_bytes().replace(b'{"version":1,', b'{"version":9,'))

    answer = audited.run("audit")

    assert answer.status == 2
    assert "version 9" in answer.err


def test_several_folders_are_one_answer(audited, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    records.write(other, records.run(other, 1, records.job(1, "count", records.output(other, "c.txt"))))

    answer = audited.run("audit", ".", other)

    assert answer.status == 0
    assert [row[-1] for row in answer.rows if row[0] == "output"] == [str(other), *[str(audited.folder)] * 2]


def test_replay_says_no_with_3_where_a_registry_cannot_be_asked(audited, monkeypatch):
    records.image_path(audited.prefix, pins.pin().url).unlink()
    with Lab(audited.home):
        answer = audited.run("audit", "--replay")

    assert answer.status == 3
    assert "could be run again today: no" in answer.out
    assert "could not be asked for" in answer.out


def test_the_collector_runs_again_afterwards(audited):
    audited.run("audit")

    assert gc.isenabled()
