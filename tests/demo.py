"""The story of a tag that moves, played for real: Snakemake, Apptainer and a registry on this machine.

``make demo`` runs it. Every sentence about what happened is checked before it is printed; a step that does not show
what it says ends the demo with an error. Nothing is left behind.
"""

import difflib
import shutil
import sys
import tempfile
from pathlib import Path

from tests.support import images, programs
from tests.support.registry import RealRegistry
from tests.support.workflow import Result, Workspace

WORKFLOW = Path(__file__).parents[1] / "workflows" / "tag-moves"


class DidNotShow(Exception):
    """A step did not show what it says."""


def say(text: str = "") -> None:
    """Print a line of narration at once."""
    print(text, flush=True)


def check(claim: str, *, shown: bool) -> None:
    """End the demo unless what it claims was `shown`."""
    if not shown:
        raise DidNotShow(claim)
    say(f"  ✔ {claim}")


class Story:
    """The stage: a workflow folder, a registry with one tag, and what was seen so far."""

    def __init__(self, workspace: Workspace, registry: RealRegistry) -> None:
        self.workspace = workspace
        self.registry = registry
        self.reference = f"docker://{registry.host}/demo/tool:latest"
        shutil.copytree(WORKFLOW, workspace.folder, dirs_exist_ok=True)

    def push(self, message: str) -> str:
        """Make the tag point at a new image."""
        digest = images.push(images.tiny_image(message), self.registry.host, "demo/tool", "latest")
        say(f"  demo/tool:latest now points at {digest[:19]}, whose message is {message!r}")
        return digest

    def run(self, *arguments: str, mode: str = "", fails: bool = False, again: bool = False) -> Result:
        """Run the workflow, and show the command and what this plugin said."""
        config = [f"image={self.reference}", "file=/message", *([f"apptainer_freshness={mode}"] if mode else [])]
        command = [*(["--forceall"] if again else []), *arguments]
        flag = f" --config apptainer_freshness={mode}" if mode else ""
        say(f"  $ snakemake --sdm apptainer{''.join(f' {word}' for word in command)}{flag}")
        result = self.workspace.snakemake(*command, "--config", *config, fails=fails)
        for line in result.ours:
            say(f"    {line}")
        return result

    @property
    def message(self) -> str:
        """What the image that ran said."""
        return self.workspace.read("release.txt").strip()

    @property
    def lock(self) -> str:
        """The text of the lock file."""
        return self.workspace.read("containers.lock")


def snakemake_alone(story: Story) -> None:
    """Show that a tag moves and Snakemake keeps running what it once pulled."""
    say("\n(a) Snakemake alone")
    story.push("original")
    story.run()
    check("the first run ran the image 'original'", shown=story.message == "original")
    story.push("updated")
    story.run(again=True)
    check("the tag moved, the second run ran 'original' again, and no user was told", shown=story.message == "original")


def pinned(story: Story) -> None:
    """Show that the flag pins the run and reports the move."""
    say("\n(b) The same with apptainer_freshness: true")
    digest = story.push("original")
    story.run(mode="true", again=True)
    check(f"containers.lock names {digest[:19]}", shown=digest in story.lock)
    url = str(story.workspace.metadata("release.txt")["container_img_url"])
    check("Snakemake's own metadata names the same digest", shown=url.endswith(digest))
    story.push("updated")
    result = story.run(mode="true", again=True)
    check("the move is reported", shown=any(line.startswith("moved:") for line in result.ours))
    check("the pinned image 'original' ran", shown=story.message == "original")


def updated(story: Story) -> None:
    """Show that an update takes the new image, and what changed in the lock."""
    say("\n(c) Taking the new image")
    before = story.lock
    story.run(mode="update")
    check("the rule was run again, in the image 'updated'", shown=story.message == "updated")
    changed = [
        line
        for line in difflib.unified_diff(
            before.splitlines(), story.lock.splitlines(), "before", "after", lineterm="", n=1
        )
        if not line.startswith("@@")
    ]
    check("the lock file changed, as a reviewer would see it:", shown=bool(changed))
    for line in changed:
        say(f"    {line}")


def refused(story: Story) -> None:
    """Show that nothing runs in a mode that never writes the lock, where the lock lacks a reference."""
    say("\n(d) A lock that lacks a reference, in mode locked")
    (story.workspace.folder / "containers.lock").unlink()
    (story.workspace.folder / "release.txt").unlink()
    result = story.run(mode="locked", fails=True)
    error = result.output.partition("ContainerFreshnessError:\n")[2].strip()
    for line in error.splitlines():
        say(f"    {line}")
    check("the run was refused", shown="not in containers.lock" in error)
    check("before any job started", shown=not story.workspace.exists("release.txt"))


def main() -> int:
    """Play the story; the exit status says whether it showed what it says."""
    try:
        with (
            tempfile.TemporaryDirectory(prefix="freshness-demo-") as folder,
            RealRegistry(Path(folder, "registry")) as registry,
        ):
            story = Story(Workspace(Path(folder, "workflow"), Path(folder, "home")), registry)
            say(f"Apptainer: {programs.find('apptainer')}; registry: {registry.host}; workflow: workflows/tag-moves")
            say(f"Each command below also has: --cores 2 --config image={story.reference} file=/message")
            for step in (snakemake_alone, pinned, updated, refused):
                step(story)
    except (DidNotShow, AssertionError) as error:
        say(f"\nThe demo did not show what it says: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nstopped")
        return 130
    say("\nThe container that ran is the one that was named.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
