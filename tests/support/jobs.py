"""Rules and jobs of Snakemake, as much of them as containers and records need."""


class Rule:
    """A rule `name` with the container `image`."""

    def __init__(self, name: str, image: str | None, snakefile: str = "Snakefile") -> None:
        self.name, self.container_img, self.snakefile, self.lineno = name, image, snakefile, 7

    def expand_container_img(self, wildcards: object) -> str | None:
        """Return the image, which has no wildcards."""
        return self.container_img


class Job:
    """A job that makes `outputs`; `url` is what it runs."""

    is_local = False

    def __init__(self, number: int, *outputs: str, rule: Rule | str = "count", url: str = "", attempt: int = 1) -> None:
        self.jobid, self.output, self.attempt, self.container_img_url = number, outputs, attempt, url or None
        self.rule, self.wildcards_dict = rule if isinstance(rule, Rule) else Rule(rule, None), dict[str, str]()

    def is_group(self) -> bool:
        """Say that it is a job."""
        return False
