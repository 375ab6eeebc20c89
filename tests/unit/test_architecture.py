"""Imports go one way, and some doors have one key."""

import ast
import graphlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support import rooms
from tests.support.rooms import FLOORS, PACKAGE

NAME = PACKAGE.name
NOT_IN_JOBS = (
    *(f"{floor}." for floor in ("actions", "apptainer", "audit", "policy", "record", "registry")),
    *("image.tree", "lockfile", "store.facts", "store.places", "store.records", "store.sites", "engine.summary"),
)
ONLY = {  # what may be imported in one place alone
    "snakemake": ("engine/", "plugin/"),
    "snakemake_interface_common": ("engine/", "plugin/"),
    "snakemake_interface_executor_plugins": ("engine/", "plugin/"),
    "snakemake_interface_report_plugins": ("engine/", "plugin/"),
    "snakemake_interface_software_deployment_plugins": ("plugin/",),
    "httpx": ("registry/transport.py",),
    "tenacity": ("registry/",),
    "filelock": ("common/", "store/", "actions/"),
    "tomli_w": ("lockfile.py",),
    "jinja2": ("audit/render/",),
    "rocrate": ("audit/render/",),
    "sigstore": ("policy/verification.py",),
    "cryptography": ("policy/verification.py",),
    "click": ("cli/",),
    "rich": ("cli/", "common/progress.py"),
}
HEAVY = {"httpx", "pydantic", "jinja2", "rich", "sigstore", "cryptography"}
"""What no start of Snakemake may load because of this package."""
SHORTEST = 40
SHORT = {  # modules of fewer lines, with the reason why it has a file of its own
    "common.collector": "an audit and the reader of squashfs pause it alike",
    "audit.render.html": "a format is one module of its name",
    "common.times": "records and pins agree on one spelling of a time",
    "engine.versions": "a program writes it",
    "registry.listings": "reads what the client, which only asks, was answered",
    "": "what Snakemake imports at every start",
    "image.pinned": "the processes of jobs hold a rule to its pin, and read no lock",
    "store.clock": "the processes of jobs tell the time of an image folder, and need no fact for it",
}
LONGEST = 400
LONGEST_FUNCTION = 60
"""A screen: what is longer does more than one thing."""
TESTS = Path(__file__).parents[1]
LONG_TESTS = {  # files of tests and what they share of more lines, with the reason
    "support/tools.py": "runs before anything is installed, and its hash is the stamp of the tools",
}
FOREIGN = {  # modules that read JSON or TOML without the strict reader, with whose format it is
    "actions.labels": "configurations of images",
    "actions.transfer": "manifests",
    "apptainer.base_files": "configurations of images",
    "apptainer.cache": "manifests",
    "apptainer.sandbox": "labels that Apptainer wrote",
    "apptainer.sif": "labels that Apptainer wrote",
    "apptainer.signers": "what Apptainer prints",
    "cli.vulnerabilities": "reports of scanners",
    "engine.persistence": "Snakemake's records",
    "registry.challenge": "answers of registries",
    "registry.listings": "answers of registries",
    "registry.containers_conf": "configuration of containers/image",
    "registry.credentials": "logins of Docker and Apptainer, answers of their helpers",
    "registry.library": "answers of registries",
    "common.strict_json": "what strangers sign",
    "common.tables": "the strict reader itself",
}
UNTESTED = {  # modules without a file of tests of their name, with the reason
    "cli/__init__.py": "the program as a whole: tests/unit/cli/test_program.py",
    "engine/next_seams.py": "a table that a page shows: tests/unit/engine/test_seams.py",
    "settings/__init__.py": "only the names of the two modules in it",
}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def imports(path):
    """Every module that the file at `path` imports, anywhere in it."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(module):
    return module.removeprefix(f"{NAME}.").split(".")[0]


def floor(name):
    """The number of the floor that has the room `name`, counted from the ground up."""
    return next((number for number, names in enumerate(reversed(FLOORS)) if name in names), None)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_downwards_only(path):
    own = path.parts[0].removesuffix(".py")
    if own in ("__init__", "plugin"):
        return
    here = floor(own)
    assert here is not None, f"{path} lies in no room of the design"
    for module in imports(path):
        target = room(module)
        if module.startswith(f"{NAME}.") and floor(target) is not None:  # else a name of the package itself
            assert target == own or floor(target) < here or {own, target} <= set(FLOORS[-1]), f"{path} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_what_one_room_alone_may_import_is_imported_there(path):
    for module in imports(path):
        allowed = ONLY.get(module.split(".")[0])
        if allowed is not None:
            assert str(path).startswith(allowed), f"{path} imports {module}; only {allowed} may"


def test_the_test_of_the_direction_sees_a_wrong_import(tmp_path, monkeypatch):
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "wrong.py").write_text(f"from {NAME}.registry import transport\nimport httpx\n")
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)

    with pytest.raises(AssertionError, match=r"imports snakemake_apptainer_freshness\.registry"):
        test_imports_go_downwards_only(Path("image/wrong.py"))
    with pytest.raises(AssertionError, match="imports httpx"):
        test_what_one_room_alone_may_import_is_imported_there(Path("image/wrong.py"))


def reads_by_hand(path):
    """Whether the module has JSON or TOML read by Python's own functions."""
    return any(
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in {(name, how) for name in ("json", "tomllib") for how in ("load", "loads")}
        for node in ast.walk(ast.parse(path.read_text()))
    )


def test_our_own_formats_are_read_by_the_strict_reader_alone():
    assert sorted(name for name, path in rooms.modules().items() if reads_by_hand(path)) == sorted(FOREIGN)


def public_types(tree):
    """Return the names of the public classes of a module, and of its aliases of types."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name):
                pass
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                pass
            case _:
                continue
        if name[0].isupper() and not name.isupper():
            yield name


def doubles(sources):
    """Return the public types that several of the modules in `sources` (texts by name) have, with those modules."""
    found = {}
    for module, text in sources.items():
        for name in public_types(ast.parse(text)):
            found.setdefault(name, []).append(module)
    return {name: modules for name, modules in found.items() if len(modules) > 1}


def test_a_type_has_a_name_of_its_own():
    sources = {name: path.read_text() for name, path in rooms.modules().items()}

    assert doubles(sources) == {}


def test_the_test_of_names_sees_a_class_and_an_alias_of_one_name():
    sources = {"a": "class Key: pass", "b": "Key = tuple[str, str]", "c": "KEY: int = 1\n_Own = 2", "d": "_Own = 3"}

    assert doubles(sources) == {"Key": ["a", "b"]}


def test_a_room_has_a_name_of_its_own():
    names = Counter(name.rpartition(".")[2] for name in rooms.modules() if room(name) != "cli")  # named as their verbs

    assert [name for name, count in names.items() if count > 1] == []


def test_every_module_says_what_it_is_for():
    silent = [str(path) for path in MODULES if not ast.get_docstring(ast.parse((PACKAGE / path).read_text()))]

    assert silent == []


def cycle_in(graph):
    """A cycle of imports, as a list of modules; empty where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def without_root(graph):
    """Imports of the root are those of its constants; what it imports itself has a test of its own."""
    return {name: targets - {""} for name, targets in graph.items() if name}


def test_no_modules_import_each_other_in_a_circle_not_even_inside_functions():
    assert cycle_in(without_root(rooms.graph())) == []


def test_the_test_of_cycles_sees_one():
    graph = {"": {"a"}, "a": {"b", ""}, "b": {"c"}, "c": {"a"}}

    assert sorted(set(cycle_in(without_root(graph)))) == ["a", "b", "c"]


def test_the_root_imports_the_engine_alone_and_only_when_it_is_installed():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    inside = {
        id(node)
        for function in tree.body
        if isinstance(function, ast.FunctionDef) and function.name == "install"
        for node in ast.walk(function)
    }
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]

    assert [node.module for node in found] == [f"{NAME}.engine.install"]
    assert all(id(node) in inside for node in found)


def test_what_snakemake_imports_at_every_start_loads_nothing_heavy():
    code = """if True:
        import sys, snakemake.cli
        before = set(sys.modules)
        import snakemake_report_plugin_apptainer_freshness
        print(*sorted(set(sys.modules) - before))
    """
    path = ":".join(map(str, (PACKAGE.parent, PACKAGE / "plugin")))
    answer = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True, timeout=60
    )
    loaded = answer.stdout.split()

    assert f"{NAME}.engine.install" in loaded  # else nothing was tried
    assert {module.split(".")[0] for module in loaded} & HEAVY == set()


JOB = ("hook", "singularity", "handover", "pins_file", "images", "far_notes")
"""The rooms of the engine that the process of a job imports, in which the hashes of its images came along."""


def test_the_process_of_a_job_loads_nothing_that_fetches_or_judges_images_nor_a_lock_or_fact():
    code = f"import sys; from {NAME}.engine import {', '.join(JOB)}; print(*sorted(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = answer.stdout.split()

    assert f"{NAME}.engine.guard" in loaded  # else nothing was tried
    assert not [name for name in loaded if name.startswith(tuple(f"{NAME}.{room}" for room in NOT_IN_JOBS))]


def test_a_short_module_has_a_reason():
    short = [name for name, path in rooms.modules().items() if has_code(path) and line_count(path) < SHORTEST]

    assert sorted(short) == sorted(SHORT)


def test_no_module_is_long():
    assert [str(path) for path in MODULES if line_count(PACKAGE / path) > LONGEST] == []


def functions():
    """Every function of the package, as where it stands and how many lines it has, without its decorators."""
    for path in MODULES:
        for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path}: {node.name}", node.end_lineno - node.lineno + 1


def test_every_function_fits_on_a_screen():
    assert [name for name, lines in functions() if lines > LONGEST_FUNCTION] == []


def test_a_long_file_of_tests_has_a_reason():
    long = [str(path.relative_to(TESTS)) for path in TESTS.rglob("*.py") if line_count(path) > LONGEST]

    assert sorted(long) == sorted(LONG_TESTS)


def test_tests_share_what_they_need_through_the_folder_for_it_and_not_by_importing_each_other():
    shared = ("tests.support", "tests.bench")
    named = {
        f"{path.relative_to(TESTS)} imports {module}"
        for path in TESTS.rglob("*.py")
        for module in imports(path)
        if module.startswith("tests.") and not module.startswith(shared)
    }

    assert named == set()


def mirrored(path):
    """Return the file of tests that mirrors the module at `path`: a package's is beside or in its folder."""
    folder, name = path.parent, path.stem
    if name == "__init__":
        folder, name = folder.parent, folder.name
    return Path(folder) / f"test_{name}.py"


def missing_mirrors():
    """Return the modules with code that no file of tests has the name of; what a host loads by its name is left out."""
    here = Path(__file__).parent
    return {
        str(path)
        for path in MODULES
        if path.parts[0] not in ("plugin", "__init__.py")
        and has_code(PACKAGE / path)
        and not (here / mirrored(path)).exists()
    }


def test_every_module_has_a_file_of_tests_of_its_name_or_a_reason():
    assert sorted(missing_mirrors() - set(UNTESTED)) == []
    assert sorted(set(UNTESTED) - missing_mirrors()) == [], "they have tests now: take them out of the table"


def has_code(path):
    """Whether the module is more than the docstring of a package."""
    return len(ast.parse(path.read_text()).body) > 1


def line_count(path):
    return len(path.read_text().splitlines())


def test_the_page_about_the_architecture_is_current():
    text = rooms.DOCUMENT.read_text()

    assert rooms.written(text) == text, "run: python -m tests.support.rooms"
