"""Imports go one way, and some doors have one key."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "snakemake_apptainer_freshness"
NAME = PACKAGE.name

FLOORS = [  # from the ground up; a room may import from its own floor only where it is the same room, and from below
    {"errors", "settings", "schemas"},
    {"common"},
    {"image"},
    {"lockfile"},
    {"freshness", "pin", "policy"},
    {"apptainer", "record", "registry"},
    {"store"},
    {"actions"},
    {"audit"},
    {"engine"},
    {"cli"},
]
ONLY = {  # what may be imported in one place alone
    "snakemake": ("engine/", "plugin/"),
    "snakemake_interface_common": ("engine/", "plugin/"),
    "snakemake_interface_executor_plugins": ("engine/", "plugin/"),
    "snakemake_interface_report_plugins": ("engine/", "plugin/"),
    "httpx": ("registry/transport.py",),
    "tenacity": ("registry/",),
    "filelock": ("common/", "store/", "actions/"),
    "tomli_w": ("lockfile.py",),
    "jinja2": ("audit/render/",),
    "rocrate": ("audit/render/",),
    "click": ("cli/",),
    "rich": ("cli/", "common/progress.py"),
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
    return next((number for number, rooms in enumerate(FLOORS) if name in rooms), None)


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
            assert target == own or floor(target) < here or {own, target} <= FLOORS[0], f"{path} imports {module}"


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


def test_every_module_says_what_it_is_for():
    silent = [str(path) for path in MODULES if not ast.get_docstring(ast.parse((PACKAGE / path).read_text()))]

    assert silent == []
