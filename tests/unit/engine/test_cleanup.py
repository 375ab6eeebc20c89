"""A clean-up keeps what any registered lock needs."""

from types import SimpleNamespace

import pytest

from snakemake_apptainer_freshness.engine import cleanup
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support.pins import DIGEST, OTHER, lock_entry, pin

ENTRY = lock_entry("docker://quay.io/team/tool:1.0")


class Persistence:
    """Snakemake's, as far as a clean-up goes: deletes every image in the folder that the DAG does not use."""

    def __init__(self, folder):
        self.container_img_path = str(folder)
        self.dag = None

    def cleanup_containers(self):
        used = {image.path for image in self.dag.container_imgs.values()}
        folder = image_path(self.container_img_path, pin().url).parent
        for path in folder.iterdir():
            if path.suffix == ".simg" and str(path) not in used:
                path.unlink()


@pytest.fixture
def workflow(tmp_path):
    persistence = Persistence(tmp_path)
    persistence.dag = SimpleNamespace(container_imgs={})
    return SimpleNamespace(persistence=persistence, dag=persistence.dag)


def put(folder, url):
    path = image_path(folder, url)
    path.write_bytes(b"an image")
    return path


def test_an_image_of_the_lock_at_hand_stays_and_another_goes(workflow, tmp_path, capsys):
    kept = put(tmp_path, f"docker://quay.io/team/tool@{DIGEST}")
    gone = put(tmp_path, f"docker://quay.io/team/tool@{OTHER}")
    cleanup.protect(workflow, Lock.of([ENTRY]))
    workflow.persistence.cleanup_containers()
    assert (kept.exists(), gone.exists()) == (True, False)
    assert workflow.dag.container_imgs == {}


def test_an_image_of_another_registered_lock_stays(workflow, tmp_path):
    kept = put(tmp_path, f"docker://quay.io/team/tool@{DIGEST}")
    lock = tmp_path / "containers.lock"
    lock.write_text(dumps(Lock.of([ENTRY])))
    cleanup.register(workflow, lock, Lock.of([ENTRY]), [])
    cleanup.protect(workflow)
    workflow.persistence.cleanup_containers()
    assert kept.exists()


def test_a_snakemake_that_deletes_no_images_is_left_alone():
    workflow = SimpleNamespace(persistence=SimpleNamespace())
    cleanup.protect(workflow)
    assert vars(workflow.persistence) == {}
