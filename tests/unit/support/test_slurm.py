"""The private Slurm: a job runs as on a cluster, and nothing stays behind."""

import getpass
import os
import subprocess
import tempfile
from pathlib import Path

from tests.support.slurm import Slurm


def test_a_job_runs_as_this_user_and_its_submission_answers_when_it_is_over():
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as short:
        folder = Path(short)
        with Slurm(folder) as slurm:
            command = [f"{slurm.path}/sbatch", "--parsable", "--mem=100", f"--output={folder}/said"]
            job = f"{slurm.path}/srun sh -c 'whoami; echo $SLURM_JOB_ID; hostname'"
            result = subprocess.run([*command, "--wrap", job], capture_output=True, text=True, check=True)
            said = (folder / "said").read_text().split()
            daemons = [int(path.read_text()) for path in folder.glob("*.pid")]

        assert said == [getpass.getuser(), result.stdout.strip(), os.uname().nodename]
        assert len(daemons) == 3
        assert not any(Path("/proc", str(daemon)).exists() for daemon in daemons)
