"""Copies of a module in which one check is broken: a test of the check is held to fail on the copy.

A function can be replaced where a test runs. A condition within one cannot, so the module is compiled anew from its
source, changed in one place; the module itself stays as it is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

REFUSE = "refuse"
"""What a method is called that raises."""


def mutant(module: ModuleType, old: str, new: str) -> ModuleType:
    """Return a copy of `module` in whose source `old`, which stands there once, is `new`."""
    source = _source(module)
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {module.__name__}"
    return _copy(module, ast.parse(source.replace(old, new)))


def unchecked(module: ModuleType) -> dict[str, ModuleType]:
    """Return copies of `module`, each without one of its refusals, by function and condition.

    A refusal is an ``if`` that ends in an error: it is never met, or one part of its ``or`` is not; or an error that
    is told as another one: it is not.
    """
    tree = ast.parse(_source(module))
    found: dict[str, ModuleType] = {}
    for name, node in _named(tree, ""):
        if isinstance(node, ast.If) and _refuses(node.body[-1]):
            whole = node.test
            parts = whole.values if isinstance(whole, ast.BoolOp) and isinstance(whole.op, ast.Or) else [whole]
            for part in parts:
                left = [each for each in parts if each is not part]
                node.test = ast.BoolOp(op=ast.Or(), values=[ast.Constant(value=False), *left])
                if not left:
                    node.test = ast.Constant(value=False)
                found[f"{name}: {ast.unparse(part)}"] = _copy(module, tree)
            node.test = whole
        if isinstance(node, ast.ExceptHandler) and _refuses(node.body[-1]):
            body, node.body = node.body, [ast.Raise()]
            found[f"{name}: except {ast.unparse(node.type) if node.type else ''}"] = _copy(module, tree)
            node.body = body
    return found


def _named(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield all within `node`, each with the name of its function and class."""
    for child in ast.iter_child_nodes(node):
        own = name
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            own = f"{name}.{child.name}".lstrip(".")
        yield own, child
        yield from _named(child, own)


def _refuses(statement: ast.stmt) -> bool:
    """Whether `statement` raises an error of its own."""
    if isinstance(statement, ast.Raise):
        return statement.exc is not None
    if not isinstance(statement, ast.Expr) or not isinstance(call := statement.value, ast.Call):
        return False
    called = call.func
    return REFUSE in (getattr(called, "attr", ""), getattr(called, "id", ""))


def _source(module: ModuleType) -> str:
    assert module.__file__ is not None
    return Path(module.__file__).read_text()


def _copy(module: ModuleType, tree: ast.Module) -> ModuleType:
    copy = ModuleType(module.__name__)
    copy.__file__ = module.__file__
    code = compile(ast.fix_missing_locations(tree), str(module.__file__), "exec")
    exec(code, copy.__dict__)
    return copy
