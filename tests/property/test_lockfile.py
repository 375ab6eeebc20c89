"""Any text in, a lock or our own error out; any lock out and in again is the same."""

import contextlib
import string

from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness import lockfile
from snakemake_apptainer_freshness.errors import InvalidLock
from snakemake_apptainer_freshness.lockfile import Lock
from tests.support.pins import lock_entry

hex_digits = st.text("0123456789abcdef", min_size=64, max_size=64)
names = st.text(string.ascii_lowercase, min_size=1, max_size=8)


@st.composite
def entries(draw):
    digest = f"sha256:{draw(hex_digits)}"
    repository = f"{draw(names)}/{draw(names)}"
    return lock_entry(
        reference=f"docker://quay.io/{repository}:{draw(names)}",
        digest=digest,
        media_type="application/vnd.oci.image.index.v1+json",
        platforms=draw(st.dictionaries(names.map("linux/".__add__), hex_digits.map("sha256:".__add__), max_size=3)),
    )


@given(st.lists(entries(), unique_by=lambda entry: entry.reference))
def test_a_lock_survives_being_written_and_read(found):
    lock = Lock.of(found)
    text = lockfile.dumps(lock)

    again = lockfile.loads(text)
    assert again == lock
    assert lockfile.dumps(again) == text
    assert lockfile.dumps(lockfile.loads(text)) == text


@given(st.text())
def test_any_text_is_a_lock_or_an_error_of_ours(text):
    with contextlib.suppress(InvalidLock):
        lockfile.loads(text)


keys = st.sampled_from(["version", "image", "reference", "pinned", "digest", "media_type", "platforms", "hints", "x"])
scalars = st.one_of(st.integers(-1, 3), st.booleans(), st.text(max_size=8), st.floats(allow_nan=False))
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4))


@given(st.dictionaries(keys, values, max_size=4))
def test_any_toml_document_is_a_lock_or_an_error_of_ours(document):
    import tomli_w

    with contextlib.suppress(InvalidLock):
        lockfile.loads(tomli_w.dumps({"version": 1} | document))
