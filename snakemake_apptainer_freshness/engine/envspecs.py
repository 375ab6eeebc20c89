"""Container specifications of the next Snakemake: reading them, and converting them to our plugin's.

A rule has a ``container:`` directive, a text or a function of wildcards, and a ``software:`` directive: environments
that may lie within each other or stand for each other, or a function that makes them. Each container in these becomes
a specification of our plugin, as the rule says it: the digest is its lock's, not its text's.
"""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

KIND: Final = "container"
"""What all plugins for containers provide."""
_FILE: Final = re.compile(r"[./~].*|.*\.(?:sif|simg|img)", re.ASCII | re.DOTALL)
_DOCKER: Final = "docker://"


def reference_of(image: str) -> str:
    """Return the reference that `image` is.

    Without a scheme it is one of a registry, as the published plugin for containers has it, or the path of a file,
    where it looks like one.
    """
    if "://" in image or _FILE.fullmatch(image):
        return image
    return _DOCKER + image


def directive(rule: Any) -> Any:
    """Return the container directive of `rule`: a text, a function, or nothing."""
    specs = rule.software_env_specs
    if specs is None:
        return None
    if specs.software_spec is None:
        image = specs.legacy_container_img
        return reference_of(image) if isinstance(image, str) and image else image
    if not hasattr(specs.software_spec, "kind"):
        return specs.software_spec
    return next((reference_of(container.image_uri) for container in containers_in(specs.software_spec)), None)


def reference_for(rule: Any, wildcards: Any) -> Any:
    """Return the first reference that `rule` names for `wildcards`."""
    spec = rule.expand_software_env_specs(wildcards)
    return next((reference_of(container.image_uri) for container in containers_in(spec)), None)


def containers_in(spec: Any) -> Iterator[Any]:
    """Yield the specifications of containers in `spec`, those around it and those that stand for it, too."""
    if spec is not None:
        if spec.kind == KIND:
            yield spec
        yield from containers_in(spec.within)
        yield from containers_in(spec.fallback)


def that_run(spec: Any, chosen: set[str]) -> Iterator[Any]:
    """Yield the specifications of containers that `spec` comes to where plugins for the kinds `chosen` are used."""
    if spec is None:
        return
    if spec.kind not in chosen:
        yield from that_run(spec.fallback, chosen)
        return
    if spec.kind == KIND:
        yield spec
    yield from that_run(spec.within, chosen)


def converted(specs: Any, make: Callable[[str], Any]) -> Any:
    """Return `specs`, the ``EnvSpecs`` of a rule, whose every container is what `make` makes of what the rule says."""
    own = type(specs)

    def interpret(self: Any) -> Any:
        image = self.legacy_container_img
        others = (self.software_spec, self.legacy_conda_env, self.legacy_env_modules)
        if image is not None and not any(others):  # Snakemake would want the other plugin, which need not be there
            return make(image)
        return _convert(own.interpret(self), make)

    result = copy.copy(specs)
    result.__class__ = type(own.__name__, (own,), {"interpret": interpret})
    return result


def _convert(spec: Any, make: Callable[[str], Any]) -> Any:
    if spec is None:
        return None
    new = copy.copy(spec)
    if spec.kind == KIND:
        new = make(spec.image_uri)
    new.within = _convert(spec.within, make)
    new.fallback = _convert(spec.fallback, make)
    return new
