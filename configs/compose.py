"""Hydra, and nothing but Hydra: compose a verb's configuration from the choice of its parts."""

from __future__ import annotations

import itertools
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from importlib import import_module, resources
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..finetuning.registry import METHODS
from ..policy.registry import TARGETS
from ..policy.training.settings import TrainingSettings
from ..real_robot.registry import DRIVERS
from ..spec import ConfigError, Horizon, nearest, shorten, unknown
from ..system.options import Option, read_options
from ..system.plugins import added
from .parts import make_node
from .reader import Argument, explain_unknown, name_arguments, read_value
from .schema import MOST, VERBS

MODULE = __name__.rsplit(".", 1)[0]
OUTPUT = {
    "collect": ("out",),
    "train": ("name",),
    "evaluate": ("out", "video"),
    "demo": ("name",),
    "finetune": ("name",),
    "serve": (),
    "deploy": ("name",),
    "certify": (),
    "export": ("out",),
}
"""Verb -> the options that say where it writes."""
ENVIRONMENT = "task.options."
"""Options below this belong to the environment: a task's file need not name all of them."""
CHECKED = (int, float, bool)
ADDED = {"encoder": "hotstart.encoders", "robot": "hotstart.drivers"}
"""Axis -> the entry-point group by which installed packages add to it."""


def list_groups() -> list[str]:
    """The axes."""
    found = []
    for path in resources.files(MODULE).iterdir():
        if path.is_dir() and not path.name.startswith("__"):
            found.append(path.name)
    return sorted(found)


def describe_group(group: str) -> dict[str, str]:
    """Choices of an axis with their meanings, the first comment of each file."""
    found = {}
    if group in ADDED:
        for name, entry in added(ADDED[group]).items():
            found[name] = f"added by a package: {entry.target}"
    folder = resources.files(MODULE) / group
    for name in list_files(group):
        text = (folder / f"{name}.yaml").read_text()
        comments = re.findall(r"^# (?!@package)(.*)", text, re.MULTILINE)
        found[name] = "".join(comments[:1])
    return dict(sorted(found.items()))


def list_files(group: str) -> list[str]:
    """Names of an axis's files."""
    folder = resources.files(MODULE) / group
    found = []
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name.endswith(".yaml"):
                found.append(path.name.removesuffix(".yaml"))
    return found


def list_choices(group: str) -> list[str]:
    """Names of an axis's files, and of what installed packages add to it."""
    return list(describe_group(group))


def default_choices(verb: str) -> dict[str, str]:
    """The axes of a verb, each with what it is where it is not given."""
    listed: Any = OmegaConf.create((resources.files(MODULE) / f"{verb}.yaml").read_text())
    found = {}
    for entry in listed.defaults:
        if isinstance(entry, DictConfig):
            ((axis, choice),) = entry.items()
            found[str(axis).removeprefix("optional ")] = choice or "none"
    return found


def flatten_options(cls: type, prefix: str = "") -> dict[str, Option]:
    """The options of a verb, those of the dataclasses inside it with dots (`training.steps`)."""
    found = {}
    for option in read_options(cls).values():
        name = prefix + option.name
        found[name] = option
        hint = option.hint
        for part in (hint, *typing.get_args(hint)):
            if is_dataclass(part) and isinstance(part, type):
                found |= flatten_options(part, f"{name}.")
    return found


def compose_config(verb: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The verb's whole configuration as plain values.

    Under `choices` stands which file each axis was taken from, under `arguments` what was given.
    ConfigError names the argument that is wrong and the valid choices.
    """
    overrides = _make_overrides(verb, arguments)
    _register()
    with initialize_config_module(MODULE, version_base="1.3"):
        try:
            config = compose(verb, overrides=overrides, return_hydra_config=True)
            chosen = dict(config.hydra.runtime.choices)
            OmegaConf.set_struct(config, False)
            del config["hydra"]
            OmegaConf.resolve(config)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_explain(error, verb, overrides)) from error
    # A name follows from an option, as task.name from task.options.id: the deepest key is asked.
    missing = sorted(OmegaConf.missing_keys(config), key=lambda key: -key.count("."))
    if missing:
        raise ConfigError(f"{missing[0]} must be given: hotstart {verb} {_usage(verb, missing[0])}")
    plain: Any = OmegaConf.to_container(config)
    _check_counts(plain)
    if "training" in plain:
        _check_training(plain)
    taken = {}
    for group in list_groups():
        if chosen.get(group):
            taken[group] = chosen[group]
    return {**plain, "choices": taken, "arguments": list(arguments)}


def fill(cls: type, plain: Mapping[str, Any]) -> Any:
    """The dataclass `cls`, dataclasses inside it included, from plain values."""
    hints = typing.get_type_hints(cls)
    values = {}
    for name, value in plain.items():
        if is_dataclass(hints.get(name)):
            values[name] = fill(hints[name], value)
        else:
            values[name] = value
    return cls(**values)


def sweep(verb: str, arguments: Sequence[str]) -> list[list[str]]:
    """`--multirun`: every combination of arguments with several values (a=1,2 or a=range(1,4)).

    Each combination writes to a place of its own: the values are added to the name of what the verb
    writes.
    """
    named = []
    for argument in name_arguments(arguments, _read_verb(verb)):
        named.append(f"{argument.name}={argument.quoted}")
    try:
        parsed = OverridesParser.create().parse_overrides(named)
    except HydraException as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    fixed, varied = [], []
    values = []
    for override in parsed:
        if override.is_sweep_override():
            varied.append(override.get_key_element())
            values.append(list(override.sweep_string_iterator()))
        else:
            fixed.append(override.input_line or "")
    runs = []
    for combination in itertools.product(*values):
        run = dict(text.split("=", 1) for text in fixed)
        run |= zip(varied, combination, strict=True)
        run |= _name_outputs(verb, fixed, combination)
        runs.append([f"{name}={value}" for name, value in run.items()])
    return runs


def check_places(verb: str, configs: Sequence[Mapping[str, Any]]) -> None:
    """Raise ConfigError where two combinations of a sweep would write to one place."""
    for key in OUTPUT[verb]:
        places = [config[key] for config in configs]
        for place in places:
            if place and places.count(place) > 1:
                raise ConfigError(
                    f"two combinations of --multirun would write to {key}={place}: "
                    f"leave {key} out, or tell them apart in it, as {key}='NAME_${{seed}}'"
                )


def read_task(name: str) -> dict[str, Any]:
    """What the file of the task `name` says: its environment and options.

    Raises ConfigError for an unknown task.
    """
    if name not in list_choices("task"):
        raise ConfigError(unknown("task", name, list_choices("task")))
    text = (resources.files(MODULE) / "task" / f"{name}.yaml").read_text()
    return OmegaConf.to_container(OmegaConf.create(text))  # type: ignore[return-value]


def compose_parts(verb: str, axes: Sequence[str], arguments: Sequence[str]) -> dict[str, Any]:
    """The configuration of some axes as `arguments` choose them, targets included.

    Nothing else is looked at.
    """
    if not axes:
        return {}
    overrides = []
    for argument in name_arguments(arguments, _read_verb(verb)):
        if _find_axis(argument.name) in axes:
            overrides.append(f"{argument.name}={argument.quoted}")
    _register()
    with initialize_config_module(MODULE, version_base="1.3"):
        try:
            config: Any = compose(verb, overrides=overrides)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_explain(error, verb, overrides)) from error
    found = {}
    for axis in axes:
        found[axis] = OmegaConf.to_container(config[axis])
    return found


def _read_verb(verb: str) -> dict[str, Option]:
    """The options of a verb, those inside its dataclasses included."""
    cls = VERBS[verb].options
    assert cls is not None
    return flatten_options(cls)


def _make_overrides(verb: str, arguments: Sequence[str]) -> list[str]:
    """The arguments as Hydra takes them.

    ConfigError for unknown names and values of a wrong type.
    """
    options = _read_verb(verb)
    axes = set(default_choices(verb))
    named = name_arguments(arguments, options)
    _check_task(verb, named)
    overrides = []
    for argument in named:
        name, text = argument.name, argument.quoted
        if name in options and name not in axes:
            text = _check_value(name, text, options[name].hint)
        elif _is_entry(name, options):
            name, text = f"++{name}", _quote(text)
        else:
            _check_name(name.lstrip("+~"), options, axes)
        if name in axes:
            _check_choice(name, text)
        if name.startswith(ENVIRONMENT):
            name = f"++{name}"
        overrides.append(f"{name}={text}")
    return overrides


def _is_entry(name: str, options: Mapping[str, Option]) -> bool:
    """Whether a name is that of an entry of an option that holds texts by name: `cameras.front`."""
    parent = options.get(name.rpartition(".")[0])
    return parent is not None and parent.hint == dict[str, str]


def _quote(text: str) -> str:
    """A text as Hydra reads it, colons and slashes included."""
    if text[:1] in ("'", '"'):
        return text
    escaped = text.replace("'", "\\'")
    return f"'{escaped}'"


def _check_choice(axis: str, text: str) -> None:
    """Raise ConfigError for a choice that does not exist: Hydra passes over an optional one."""
    choice = text.strip("'\"")
    valid = list_choices(axis)
    if "," not in choice and "$" not in choice and choice not in {*valid, "none", "null"}:
        raise ConfigError(
            f"{axis}={choice} is unknown{nearest(choice, valid)}; valid: {', '.join(valid)}"
        )


def _check_task(verb: str, named: Sequence[Argument]) -> None:
    """Raise ConfigError for options of a task that is not given, and for two lengths of an episode.

    A verb whose task is `none` takes the checkpoint's own, as it is.
    """
    names = [argument.name for argument in named]
    if "task.options.max_steps" in names:
        raise ConfigError(
            "the length of an episode is task.max_steps= here, not task.options.max_steps="
        )
    if default_choices(verb).get("task") != "none" or "task" in names:
        return
    for argument in named:
        if argument.name.startswith("task."):
            raise ConfigError(
                f"{argument.name} needs its task beside it, as task=pusht "
                f"{argument.name}=...; tasks are {', '.join(list_choices('task'))}"
            )


def _check_value(name: str, text: str, hint: Any) -> str:
    """The text, `null` for none; ConfigError where it does not fit a plain type.

    `${...}` and lists are left to Hydra.
    """
    parts = {hint, *typing.get_args(hint)}
    is_choice = typing.get_origin(hint) is typing.Literal
    if "${" in text or not (is_choice or parts & set(CHECKED)):
        return text
    if read_value(name, text.strip("'\""), hint) is None:
        return "null"
    return text


def _check_name(name: str, options: Mapping[str, Option], axes: set[str]) -> None:
    """Raise ConfigError for a name that no option of the verb has.

    The keys of parts are Hydra's to judge.
    """
    parent = name.rpartition(".")[0]
    axis = _find_axis(name)
    if name in axes or name.startswith(ENVIRONMENT) or (axis in axes and axis != "task"):
        return
    if any(known.startswith(f"{name}.") for known in options):
        return  # a whole part at once, as training.regimes={...}
    valid = []
    for known in options:
        if known.rpartition(".")[0] == parent:
            valid.append(known.rpartition(".")[2])
    raise ConfigError(explain_unknown(name, valid))


def _find_axis(name: str) -> str:
    """The axis of an option: `inference` of `inference.steps` and `solver@inference.solver`."""
    return name.rpartition("@")[2].partition(".")[0]


def _name_outputs(verb: str, fixed: Sequence[str], combination: Sequence[str]) -> dict[str, str]:
    """The outputs of one combination of a sweep, each named after the values of the combination."""
    found = {}
    for key in OUTPUT[verb]:
        place = _name_output(verb, key, fixed, combination)
        if combination and place:
            found[key] = place
    return found


def _name_output(verb: str, key: str, fixed: Sequence[str], combination: Sequence[str]) -> str:
    """One output; empty where nothing is written, or where `${...}` already tells them apart."""
    place = str(_read_verb(verb)[key].default)
    for text in fixed:
        if text.startswith(f"{key}="):
            place = text.removeprefix(f"{key}=").strip("'")
            if "${" in place:
                return ""
    if not place:
        return ""
    stem, ending = re.fullmatch(r"(.*?)(\.json|\.zarr)?", place).groups()  # type: ignore[union-attr]
    parts = [stem]
    for value in combination:  # no folders, quotes or brackets
        parts.append(re.sub(r"[^\w.+-]+", "-", value).strip("-"))
    return f"'{'_'.join(parts)}{ending or ''}'"


def _check_counts(part: Any, path: str = "") -> None:
    """Raise ConfigError for a count that nobody can mean, before anything of that size is made."""
    if not isinstance(part, dict):
        return
    for key, value in part.items():
        where = f"{path}{key}"
        most = MOST.get(str(key))
        if most is not None and type(value) is int and value > most:
            raise ConfigError(f"{where} is {shorten(value)}; it must be at most {most:,}")
        _check_counts(value, f"{where}.")


def _check_training(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for settings that contradict each other, before any data is opened."""
    settings: TrainingSettings = fill(TrainingSettings, config["training"])
    settings.check_horizon(fill(Horizon, config["horizon"]))


def _usage(verb: str, name: str) -> str:
    option = _read_verb(verb).get(name)
    if option and option.positional:
        return name.upper()
    return f"{name}=..."


def _register() -> None:
    """Put the structure of every verb and of every registered target into Hydra's store."""
    GlobalHydra.instance().clear()
    store = ConfigStore.instance()
    for name, verb in VERBS.items():
        if verb.composed and verb.options:
            store.store(name=f"schema_{name}", node=make_node(verb.options))
    for axis, targets in {**TARGETS, **METHODS, **DRIVERS}.items():
        for target in targets:
            name = target.rsplit(".", 1)[1]
            _store_target(store, axis, target, f"schema_{name}")
    for axis, plug_ins in ADDED.items():
        for name, entry in added(plug_ins).items():
            _store_target(store, axis, entry.target.replace(":", "."), name)


def _store_target(store: ConfigStore, axis: str, target: str, name: str) -> None:
    node = make_node(find_target(target), target, required=axis in DRIVERS)
    store.store(group=axis, name=name, node=node)


def find_target(target: str) -> Any:
    """The constructor that a registered target names."""
    module, attribute = target.rsplit(".", 1)
    return getattr(import_module(module), attribute)


def _explain(error: Exception, verb: str, overrides: Sequence[str]) -> str:
    """Hydra's complaint in plain words, with the valid choices and the nearest of them."""
    text = str(error.__cause__ or error)
    choice = re.search(r"Could not find '(\w+)/([\w.-]+)'", str(error))
    if choice:
        group, name = choice.groups()
        valid = list_choices(group)
        return f"{group}={name} is unknown{nearest(name, valid)}; valid: {', '.join(valid)}"
    full = re.search(r"full_key: ([\w.\[\]]+)", text)
    key = re.search(r"[Kk]ey '(\w+)' (?:is not in struct|not in '\w+')", text)
    if key or (full and "not in" in text):
        path = (full or key)[1]  # type: ignore[index]
        return explain_unknown(path, _list_siblings(verb, path, overrides))
    if full:
        return f"{text.splitlines()[0]} (at {full[1]})"
    several = re.search(r"Ambiguous value for argument '\+*([\w.]+)=([^']*)'", text)
    if several:
        name, values = several.groups()
        return (
            f"{name}={values} is several values: write a list in brackets and quotes, "
            f"as '{name}=[{values}]', or add --multirun to run one after the other"
        )
    return text.splitlines()[0]


def _list_siblings(verb: str, path: str, overrides: Sequence[str]) -> list[str]:
    """The keys that exist beside `path`."""
    groups = list_groups()
    chosen = [text for text in overrides if text.partition("=")[0] in groups]
    try:
        node: Any = compose(verb, overrides=chosen)
    except (HydraException, OmegaConfBaseException):
        return []
    for part in path.split(".")[:-1]:
        node = node.get(part)
    if not isinstance(node, DictConfig):
        return []
    return [str(key) for key in node if key != "_target_"]
