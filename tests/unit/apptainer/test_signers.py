"""What ``apptainer verify`` says counts where it is plainly good, for all that is in the file."""

import json

import pytest

from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.apptainer.signers import NotSignedInside, parse, signers

PRINT = "94b471a18d3fe09433e650ff57e96ca3306f6b21"


def said(*objects):
    return json.dumps({"Signatures": 1, "SignerKeys": [{"Signer": one} for one in objects]})


def an_object(**changes):
    good = {"Partition": "FS", "Name": "x", "Fingerprint": PRINT, "KeyLocal": True, "KeyCheck": True, "DataCheck": True}
    return good | changes


def test_a_file_that_is_signed_as_a_whole():
    assert parse(said(an_object(), an_object(Partition="Def.FILE"))) == {PRINT.upper()}


def test_all_who_signed_are_told():
    assert parse(said(an_object(), an_object(Fingerprint="AA"))) == {PRINT.upper(), "AA"}


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "[]",
        "{}",
        '{"Signatures": 0, "SignerKeys": null}',
        said(),
        said(an_object(Partition="Def.FILE")),
        said(an_object(DataCheck=False)),
        said(an_object(KeyCheck=False)),
        said(an_object(KeyLocal=False)),
        said(an_object(KeyCheck="yes")),
        said(an_object(), an_object(Partition="Overlay", DataCheck=False)),
        said({"Partition": "FS"}),
    ],
)
def test_what_is_not_plainly_good_is_not_signed(answer):
    with pytest.raises(NotSignedInside):
        parse(answer)


def test_a_secret_that_begins_on_the_line_before_is_not_told(tmp_path):
    program = tmp_path / "apptainer"
    program.write_text('#!/bin/sh\nprintf "FATAL: asked with authorization: bearer\\n hunter2\\n" >&2\nexit 255\n')
    program.chmod(0o755)
    found = Apptainer(program=str(program), family="apptainer", version="1.4.5", release=(1, 4), environment={})

    with pytest.raises(NotSignedInside) as caught:
        signers(found, tmp_path / "image")

    assert "hunter2" not in str(caught.value)
