"""The package that the next Snakemake discovers for containers: ``--sdm apptainer-freshness``.

It fits ``snakemake-interface-software-deployment-plugins``. Today's Snakemake knows no such plugins, and never imports
it. The next one imports it at each start, in the main process and in the process of every job, so what environments do
is loaded when one does it.
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from snakemake_interface_software_deployment_plugins import (
    DeployableEnvBase,
    EnvSpecBase,
    PinnableEnvBase,
    SoftwareReport,
)
from snakemake_interface_software_deployment_plugins.settings import CommonSettings, SoftwareDeploymentSettingsBase

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.engine.plugin_environment import Provider

common_settings = CommonSettings(provides="container")


def _behind_a_space(value: str) -> str:
    """Return `value` for the command line of a job, whose parser takes what begins with a dash for another option."""
    return f" {value}"


@dataclass
class Settings(SoftwareDeploymentSettingsBase):
    """What ``--sdm-apptainer-freshness-…`` says."""

    lockfile: Optional[Path] = field(  # noqa: UP045  Snakemake makes an option of this spelling alone
        default=None,
        metadata={"help": "The lock with the digests of images (default: containers.lock beside the main Snakefile)."},
    )
    args: Optional[str] = field(  # noqa: UP045  as above
        default=None,
        metadata={"help": "Further arguments of apptainer exec; write =VALUE.", "unparse": _behind_a_space},
    )


@dataclass(eq=False)
class EnvSpec(EnvSpecBase):
    """A container, as a rule names it; its digest is what ``containers.lock`` says of that name."""

    image_uri: str
    provider: "ClassVar[Provider | None]" = None
    """Who has its image in a workflow; set on an object, of which it is no part."""

    @classmethod
    def identity_attributes(cls) -> Iterable[str]:
        """Return what tells specifications apart."""
        return ("image_uri",)

    @classmethod
    def source_path_attributes(cls) -> Iterable[str]:
        """Return nothing: no file beside the rule is named."""
        return ()

    def __str__(self) -> str:
        return self.image_uri


class Env(PinnableEnvBase, DeployableEnvBase):
    """A container whose image file is proven to be what the lock names, or that is not run."""

    spec: EnvSpec
    settings: Settings | None
    _provider: "Provider | None" = None

    @classmethod
    def pinfile_extension(cls) -> str:
        """Return how the name of a file with a pin ends."""
        return ".toml"

    async def pin(self) -> None:
        """Pin the reference in the lock, and leave a word of it where Snakemake keeps pins."""
        from snakemake_apptainer_freshness.engine import plugin_environment
        from snakemake_apptainer_freshness.engine.messages import as_workflow_errors

        with as_workflow_errors():
            content = plugin_environment.pinfile(self._images, self.spec.image_uri)
        self.clear_hashes()
        self.pinfile.write_text(content, encoding="utf-8")

    def is_deployable(self) -> bool:
        """Return whether there is something to be fetched: a file of this machine is where it is."""
        from snakemake_apptainer_freshness.engine import plugin_environment

        return not plugin_environment.is_file(self.spec.image_uri)

    def is_deployment_path_portable(self) -> bool:
        """Return that an image may lie anywhere."""
        return True

    @property
    def deployment_path(self) -> Path:
        """Where the image file lies: in the folder of all images, under the name that our other commands know."""
        from snakemake_apptainer_freshness.engine import plugin_environment

        return plugin_environment.place(self._images, self.spec.image_uri, self._deployment_prefix)

    async def deploy(self) -> None:
        """Have a proven image file at :attr:`deployment_path`."""
        from snakemake_apptainer_freshness.engine.messages import as_workflow_errors

        with as_workflow_errors():
            self._images.provide(self.spec.image_uri)

    def remove(self) -> None:
        """Remove the image file, unless a lock that is registered in its folder needs it."""
        from snakemake_apptainer_freshness.engine import plugin_environment

        plugin_environment.remove(self.deployment_path, self._deployment_prefix)

    def decorate_shellcmd(self, cmd: str) -> str:
        """Return the command that runs `cmd` in the image, whose file is held to its pin now."""
        from snakemake_apptainer_freshness.engine import plugin_environment
        from snakemake_apptainer_freshness.engine.messages import as_workflow_errors

        with as_workflow_errors():
            return plugin_environment.command(
                self.shell_executable.name,
                cmd,
                image=self._images.image(self.spec.image_uri).path(),
                arguments=self._images.arguments,
                mounts=[self.tempdir, *self.mountpoints],
                variables=getattr(self, "envvars", ()),  # the interface has them since 0.19
            )

    def contains_executable(self, executable: str) -> bool:
        """Return whether the image has `executable` on its path."""
        looked_for = self.decorate_shellcmd(f"command -v {shlex.quote(executable)}")
        return bool(self.run_cmd(looked_for, capture_output=True).returncode == 0)

    def record_hash(self, hash_object: Any) -> None:
        """Take the hash of the digest: another image has another one, another name of the same image has not."""
        from snakemake_apptainer_freshness.engine import plugin_environment

        hash_object.update(plugin_environment.identity(self._images, self.spec.image_uri).encode())

    def report_software(self) -> Iterable[SoftwareReport]:
        """Return what the rule says, and the digest that it runs."""
        from snakemake_apptainer_freshness.engine import plugin_environment

        yield SoftwareReport(
            name=self.spec.image_uri, version=plugin_environment.identity(self._images, self.spec.image_uri)
        )

    @property
    def _images(self) -> "Provider":
        """Who has the image: the session of a workflow, or the lock alone."""
        if self.spec.provider is not None:
            return self.spec.provider
        if self._provider is None:
            from snakemake_apptainer_freshness.engine.plugin_environment import Alone

            settings = self.settings or Settings()
            arguments = (settings.args or "").strip()
            self._provider = Alone(lockfile=settings.lockfile, folder=self._deployment_prefix, arguments=arguments)
        return self._provider
