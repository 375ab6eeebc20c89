"""SSH keys made by the real ssh-keygen, and files of allowed signers."""

from __future__ import annotations

import subprocess
from pathlib import Path


def key(folder: Path, name: str = "id_ed25519") -> Path:
    """A new key without a passphrase, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path


def allowed(folder: Path, **signers: Path) -> Path:
    """The file that allows each of `signers` its key."""
    path = folder / "allowed_signers"
    lines = [f"{name} {key.with_name(f'{key.name}.pub').read_text()}" for name, key in signers.items()]
    path.write_text("".join(lines))
    return path
