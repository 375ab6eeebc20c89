"""Whether a bind lies over something of an image: the image's own tree says it."""

import pytest

from snakemake_apptainer_freshness.audit.covered import covered, covers
from snakemake_apptainer_freshness.audit.verdicts import ImageCondition
from snakemake_apptainer_freshness.image.tree import FileType, Node
from snakemake_apptainer_freshness.record.run import Override, OverrideKind, RuntimeSettings
from tests.support import audits


def folder(**children):
    return Node(kind=FileType.FOLDER, children={name.encode(): child for name, child in children.items()})


def file():
    return Node(kind=FileType.FILE)


def link(target):
    return Node(kind=FileType.LINK, target=target.encode())


TREE = folder(
    usr=folder(bin=folder(tool=file()), lib=folder()),
    bin=link("usr/bin"),
    opt=folder(conda=folder(tool=file()), alias=link("/opt/conda"), up=link("../mnt")),
    app=folder(main=file()),
    home=folder(other=folder()),
    mnt=folder(),
    loop=link("loop"),
)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/usr/bin/tool", "/usr", "/bin/tool", "/bin", "/opt", "/opt/conda", "/opt/alias/tool", "/app", "/app/main",
        "/home", "/loop/x",
    ],
)  # fmt: skip
def test_a_bind_at_what_the_image_has_covers_it(path):
    assert covers(TREE, path)


@pytest.mark.parametrize("path", ["/usr/lib/plugin.so", "/usr/lib", "/etc/ld.so.preload", "/lib64", "/app/new"])
def test_a_bind_that_adds_to_what_programs_load_covers(path):
    assert covers(TREE, path)


@pytest.mark.parametrize("path", ["/scratch", "/data/run/1", "/mnt", "/mnt/disk", "/home/me", "/opt/up", "/opt/up/x"])
def test_a_bind_where_the_image_has_nothing_covers_nothing(path):
    assert not covers(TREE, path)


def made(*overrides):
    image = audits.image()
    runtime = RuntimeSettings(overrides=overrides)
    return image, audits.run(1, audits.job(1, "count", "a", ran=image), images=(image,), runtime=runtime)


def bind(path, **changes):
    return Override(**{"kind": OverrideKind.BIND, "path": path, "source": "/evil", "by": "--bind"} | changes)


@pytest.mark.parametrize("path", ["/tmp", "/tmp/x", "/proc/1", "/dev/shm", "/etc/hosts"])
def test_a_bind_where_apptainer_binds_itself_matters_to_no_image(path):
    _, run = made(bind(path))

    assert covered([run], {}) == {}


def test_a_bind_counts_where_the_image_is_not_here_to_be_asked():
    image, run = made(bind("/scratch"))

    assert "--bind bound /evil at /scratch" in covered([run], {})[run.id, image.pinned]


def test_another_file_at_the_images_place_is_not_asked():
    image, run = made(bind("/scratch"))
    now = ImageCondition(state="verified", detail="", path="/x.simg", sha256=audits.sha256("another"))

    assert "is not here" in covered([run], {image.pinned: now})[run.id, image.pinned]


@pytest.mark.parametrize(
    ("override", "text"),
    [
        (bind("/", kind=OverrideKind.OVERLAY, by="APPTAINER_OVERLAY"), "APPTAINER_OVERLAY put an overlay /evil over"),
        (bind("PATH", kind=OverrideKind.VARIABLE, by="APPTAINERENV_PATH"), "before what the image sets as PATH"),
    ],
)
def test_an_overlay_and_a_variable_that_names_programs_count_whatever_the_image_has(override, text):
    image, run = made(override)

    assert text in covered([run], {})[run.id, image.pinned]


def test_a_run_without_anything_over_its_images_is_left_out():
    _, run = made()

    assert covered([run], {}) == {}
