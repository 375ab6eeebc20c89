"""The pictures of the documents are made anew of what the program prints, and show what they are there for."""

import re
import struct
import xml.etree.ElementTree as ET

from tests.support.pictures import FOLDER, PAGE, TERMINAL, make


def texts(svg):
    return " ".join("".join(ET.fromstring(svg).itertext()).replace("\xa0", " ").split())


def test_they_are_made_anew_of_a_real_terminal_and_a_real_page(tmp_path):
    make(tmp_path)
    shown = texts((tmp_path / TERMINAL).read_text())
    width, height = struct.unpack(">2I", (tmp_path / PAGE).read_bytes()[16:24])

    for words in ("$ apptainer-freshness lock", "$ apptainer-freshness status", "moved", "absent", "2 added"):
        assert words in shown
    assert re.search(r"sha256:[0-9a-f]{12} → sha256:[0-9a-f]{12}", shown)
    assert "http://www.w3.org" in (tmp_path / TERMINAL).read_text()
    assert not re.search(r"(?:href|src|url\()[^)>]*https?:", (tmp_path / TERMINAL).read_text())
    assert (width, height) == (1400, 900)


def test_those_of_the_documents_are_there():
    assert "$ apptainer-freshness lock" in texts((FOLDER / TERMINAL).read_text())
    assert (FOLDER / PAGE).read_bytes().startswith(b"\x89PNG")
