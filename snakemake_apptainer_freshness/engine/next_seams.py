"""Names of the next Snakemake that are wrapped, called or read here, beside those that it shares with today's.

The next Snakemake runs containers by software deployment plugins. What these are is an interface that it promises to
keep (``snakemake-interface-software-deployment-plugins``); the names in this table are none of that interface. They are
those of the development branch; docs/deployment.md shows the table.
"""

from typing import Final

from snakemake_apptainer_freshness.engine.seams import Seam, SeamUse

NEXT: Final = "10"
_STOPS: Final = "a workflow with the flag stops and says so"

MANAGER: Final = Seam(
    name="Workflow.software_deployment_manager",
    use=SeamUse.READ,
    why="tells the next Snakemake from today's, and makes the environments of jobs",
    without="containers are looked for as today's Snakemake has them",
    since=NEXT,
)
METHODS: Final = Seam(
    name="DeploymentSettings.deployment_methods",
    use=SeamUse.READ,
    why="which plugins `--sdm` chose",
    without=_STOPS,
    since=NEXT,
)
PREFIX: Final = Seam(
    name="DeploymentSettings.deployment_prefix",
    use=SeamUse.READ,
    why="where the image files lie, in a folder `container`",
    without=_STOPS,
    since=NEXT,
)
PLUGIN_SETTINGS: Final = Seam(
    name="Workflow.software_deployment_provider_settings",
    use=SeamUse.READ,
    why="what `--sdm-apptainer-freshness-…` says; Snakemake gives a plugin those of another one where two provide "
    "containers",
    without=_STOPS,
    since=NEXT,
)
REGISTRY: Final = Seam(
    name="SoftwareDeploymentManager.registry",
    use=SeamUse.READ,
    why="which kind of environment each plugin provides, and our own classes",
    without=_STOPS,
    since=NEXT,
)
COLLECT_ENVIRONMENTS: Final = Seam(
    name="SoftwareDeploymentManager.collect_envs",
    use=SeamUse.WRAPPED,
    why="collects the environments of all jobs, at first and after each checkpoint. References are pinned here, all at "
    "once, before any environment is made",
    without=_STOPS,
    since=NEXT,
)
DEPLOY_ENVIRONMENTS: Final = Seam(
    name="SoftwareDeploymentManager.deploy_envs",
    use=SeamUse.WRAPPED,
    why="deploys environments before the jobs that need them. Our images are fetched and proven first, all at once, "
    "whether or not something lies in their places",
    without=_STOPS,
    since=NEXT,
)
SPECS: Final = Seam(
    name="Rule.software_env_specs",
    use=SeamUse.REPLACED,
    why="what a rule says. Its `container:` directive and every container that it names become specifications of our "
    "plugin: Snakemake would hand them to another one",
    without=_STOPS,
    since=NEXT,
)
EXPAND_SPECS: Final = Seam(
    name="Rule.expand_software_env_specs",
    use=SeamUse.CALLED,
    why="what a rule says for wildcards, for our commands that read a workflow",
    without=_STOPS,
    since=NEXT,
)
ENVIRONMENT: Final = Seam(
    name="Job.software_env",
    use=SeamUse.READ,
    why="the environment of a job, whose image is recorded",
    without=_STOPS,
    since=NEXT,
)
SPEC: Final = Seam(
    name="Job.software_env_spec",
    use=SeamUse.READ,
    why="what a job needs; of modules and containers that stand for each other the one that is run",
    without=_STOPS,
    since=NEXT,
)

NEXT_SEAMS: Final = tuple(value for value in [*globals().values()] if isinstance(value, Seam))
"""The table, in its order."""
