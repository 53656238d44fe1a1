"""What a type checker sees of the public names."""

import ast
import inspect
from pathlib import Path

import hotstart

ROOT = Path(hotstart.__file__).parent


def list_typed_names() -> dict[str, str]:
    """Public name -> module, from the imports that only a type checker reads."""
    found = {}
    for node in ast.parse((ROOT / "__init__.py").read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                assert isinstance(statement, ast.ImportFrom)
                (alias,) = statement.names
                assert alias.asname == alias.name  # without `as` it is not public
                found[alias.name] = statement.module
    return found


def test_the_typed_names_are_the_public_ones():
    typed = list_typed_names()
    assert typed == hotstart._PUBLIC
    assert list(typed) == hotstart.__all__
    assert (ROOT / "py.typed").exists()


def test_public_names_are_what_they_are_called_and_described():
    for name, module in hotstart._PUBLIC.items():
        public = getattr(hotstart, name)
        assert public is not None
        assert inspect.getdoc(public), f"{module}.{name} says nothing of itself"
