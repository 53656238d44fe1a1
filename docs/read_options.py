"""How the API reference reads options: lines `NAME: MEANING` of a docstring, and `option(...)`.

mkdocs.yml names this file; `hotstart --help` reads the same places by `system/options.py`.
"""

from __future__ import annotations

import ast
import re
import textwrap
from typing import Any

import griffe

MEANINGS = re.compile(r"(?:^|(?<=\n\n))(?=(\w+): \S)")
"""Where a paragraph of lines `NAME: MEANING` begins."""


class ReadOptions(griffe.Extension):
    """Shows parameters as a table, and fields of dataclasses with their meaning and default."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Put `Args:` above the lines that say what the parameters mean."""
        text = func.docstring
        if text is None or "Args:" in text.value:
            return
        start = MEANINGS.search(text.value)
        if start is None or start[1] not in func.parameters:
            return
        head, listed = text.value[: start.start()], text.value[start.start() :]
        text.value = f"{head}Args:\n" + textwrap.indent(listed, "    ")

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """List the fields that are made by `option(default, meaning, unit)` as a table."""
        lines = []
        for attribute in cls.attributes.values():
            read = read_option(attribute.value)
            if read is not None:
                attribute.value, meaning = read
                lines.append(f"    {attribute.name}: {meaning} (default `{attribute.value}`)")
        if lines and cls.docstring is not None:
            cls.docstring.value += "\n\nAttributes:\n" + "\n".join(lines)
        for parameter in cls.parameters:
            read = read_option(parameter.default)
            if read is not None:
                parameter.default = read[0]


def read_option(value: object) -> tuple[str | griffe.Expr, str] | None:
    """Default and meaning of a field whose value is `option(default, meaning, unit)`."""
    if not isinstance(value, griffe.ExprCall) or str(value.function) != "option":
        return None
    plain = [part for part in value.arguments if not isinstance(part, griffe.ExprKeyword)]
    texts = [ast.literal_eval(part) for part in plain[1:] if isinstance(part, str)]
    if len(texts) > 1:
        texts[1] = f"[{texts[1]}]"
    return plain[0], " ".join(texts)
