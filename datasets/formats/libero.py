"""Reads LIBERO's HDF5: robomimic's layout, one file a task, with the task in words.

`data` holds `problem_info` with the instruction, `bddl_file_name` and `env_args`. The cameras are
`agentview_rgb` and `eye_in_hand_rgb`. Where `macros_image_convention` is "opengl" (robosuite's
default), their last line is stored first: such pictures stand upside down.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from ...spec import ConfigError, DataError, shorten
from ...system.untrusted import parse_json
from .foreign_data import ReadOptions
from .hdf5_data import (
    INSTRUCTION,
    Episode,
    Hdf5Data,
    Numbers,
    Words,
    choose_names,
    join_episodes,
    require_fps,
    take_columns,
)
from .hdf5_files import FilePool, Hdf5File, Hdf5Group, choose_files
from .robomimic import find_demos, find_rate, name_arrays, read_demo

LAYOUTS = ("auto", "upright")


def open_libero(path: Path, options: ReadOptions) -> Hdf5Data:
    """Open a file of one task, or a folder of such files.

    Several instructions become the key `instruction`, one becomes the task. Pictures stay as they
    are stored; `layout=upright` puts the lines of those of the OpenGL convention in order. Raises
    DataError for damage and for demos that differ.
    """
    with FilePool() as pool:
        return _open(path, options, pool)


def _open(path: Path, options: ReadOptions, pool: FilePool) -> Hdf5Data:
    if options.layout not in LAYOUTS:
        raise ConfigError(f"layout is {shorten(options.layout)}; LIBERO's is one of {LAYOUTS}")
    files = choose_files(path)
    episodes: list[Episode] = []
    texts: list[str] = []
    notes: list[str] = []
    env_args = ""
    for file in files:
        data = find_demos(Hdf5File(file, pool), "auto").data
        found = _read_demos(data, options)
        episodes += found
        texts += [_find_instruction(data)] * len(found)
        notes += _describe(data, options)
        env_args = data.text("env_args")
    task = options.task
    if not task and len(set(texts)) == 1:
        task = texts[0]
    elif not task:
        for episode, text in zip(episodes, texts, strict=True):
            episode[INSTRUCTION] = Words(text, len(episode["action"]))
    taken = take_columns(path, episodes[0], options)
    fps = require_fps(options.fps or find_rate(env_args))
    said = list(dict.fromkeys(notes))
    made = join_episodes(path, "libero", episodes, taken, fps, task, said, pool)
    made.env_args = env_args
    return made


def _read_demos(data: Hdf5Group, options: ReadOptions) -> list[Episode]:
    """Every demo of a file."""
    names = data.names()
    named = choose_names(options, partial(name_arrays, data.group(names[0])))
    flip = options.layout == "upright" and _is_upside_down(data)
    episodes: list[Episode] = []
    for name in names:
        episode = read_demo(data.group(name), named)
        for key, column in episode.items():
            if flip and isinstance(column, Numbers) and len(column.row) == 3:
                episode[key] = replace(column, flip=True)
        episodes.append(episode)
    return episodes


def _is_upside_down(data: Hdf5Group) -> bool:
    return data.text("macros_image_convention") == "opengl"


def _find_instruction(data: Hdf5Group) -> str:
    """The task in words; empty where the file does not say it."""
    text = data.text("problem_info")
    found = None
    if text:
        found = parse_json(text, f"{data.file.path}, problem_info", DataError)
    if not isinstance(found, dict):
        return ""
    words = found.get("language_instruction")
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        words = " ".join(words)
    if isinstance(words, str):
        return words.strip().strip('"')
    return ""


def _describe(data: Hdf5Group, options: ReadOptions) -> list[str]:
    """How the pictures stand."""
    if options.layout == "auto" and options.images and _is_upside_down(data):
        return ["the pictures are stored upside down (OpenGL); layout=upright turns them"]
    return []
