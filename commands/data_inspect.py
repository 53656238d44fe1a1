"""`hotstart data inspect`: what a recording holds, and a first mapping of its topics."""

from __future__ import annotations

from ..configs.schema import Inspect
from ..datasets.formats.bag_inspection import draft_mapping, inspect_recording, list_rows
from ..spec import ConfigError
from .next_steps import write_command, write_path


def inspect_topics(options: Inspect) -> int:
    """Print the topics, and write or print a mapping drafted from them."""
    if options.out is not None and options.out.exists():
        raise ConfigError(f"{options.out} is there already: choose another out=, or delete it")
    reports = inspect_recording(options.path)
    rows = list_rows(reports)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = map(str.ljust, row, widths)
        print("  ".join(cells).rstrip())
    draft = draft_mapping(reports)
    if options.out is None:
        print(f"\n{draft}", end="")
        return 0
    options.out.write_text(draft)
    source = write_path(options.path)
    mapping = f"mapping={write_path(options.out)}"
    command = write_command("data convert", source, "data/mine.zarr", mapping)
    print(f"{options.out}: read it and mend it, then: {command}")
    return 0
