"""YAML text as plain values; apart from `untrusted`, so that JSON is read without PyYAML."""

from __future__ import annotations

from typing import Any

import yaml


class _PlainLoader(yaml.SafeLoader):
    """YAML's plain values; merge keys, which can multiply their content, are refused."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse `<<`."""
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.YAMLError(
                    f"merge keys (<<) are not read, line {key.start_mark.line + 1}"
                )


def load_yaml(text: str) -> Any:
    """What a YAML text says; raises ValueError for one that cannot be read."""
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except yaml.YAMLError as problem:
        raise ValueError(str(problem)) from problem
