"""Hydra, and nothing but Hydra: compose a verb's configuration from words, or say in plain words what was wrong with them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields
from importlib import import_module, resources
from inspect import cleandoc
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..policy.diffusion.regimes import Regimes
from ..policy.registry import TARGETS
from ..policy.training.settings import TrainingSettings
from ..spec import ConfigError, Horizon, nearest, shorten, unknown
from ..system.plugins import added
from .schema import MOST, VERBS, TaskConfig, fill, node_of

MODULE = __name__.rsplit(".", 1)[0]
OUTPUT = {"collect": ("out",), "train": ("name",), "evaluate": ("out", "video"), "demo": ("name",)}
"""Verb -> the keys that say where it writes."""
OPTIONS = "task.options."
"""Keys below this belong to the environment: a task's file need not name all of them."""


def choices(group: str) -> list[str]:
    """Names of a group's files, and of what installed packages add to it."""
    folder = resources.files(MODULE) / group
    if folder.is_dir():
        files = []
        for p in folder.iterdir():
            if p.name.endswith(".yaml"):
                files.append(p.name.removesuffix(".yaml"))
    else:
        files = []
    return sorted({*files, *(added("hotstart.encoders") if group == "encoder" else ())})


def groups() -> list[str]:
    """The axes."""
    return sorted(
        p.name
        for p in resources.files(MODULE).iterdir()
        if p.is_dir() and not p.name.startswith("__")
    )


def positional(verb: str) -> str | None:
    """The key that a word without `=` fills."""
    return next((f.name for f in fields(VERBS[verb]) if f.metadata.get("positional")), None)


def compose_config(verb: str, words: Sequence[str]) -> dict[str, Any]:
    """The verb's whole configuration as plain values, under `choices` which file each axis was taken from, and the `words`.

    ConfigError names the word that is wrong and the valid choices.
    """
    named = _named(verb, words)
    _register()
    with initialize_config_module(MODULE, version_base="1.3"):
        try:
            config = compose(verb, overrides=named, return_hydra_config=True)
            chosen = dict(config.hydra.runtime.choices)
            OmegaConf.set_struct(config, False)
            del config["hydra"]
            OmegaConf.resolve(config)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_explain(error, verb, named)) from error
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"{missing[0]} must be given: hotstart {verb} {_usage(verb, missing[0])}")
    plain = OmegaConf.to_container(config)
    _check_counts(plain)
    if "training" in plain:  # type: ignore[operator]
        _check_training(plain)  # type: ignore[arg-type]
    taken = {}
    for group in groups():
        if chosen.get(group):
            taken[group] = chosen[group]
    return {**plain, "choices": taken, "words": list(words)}  # type: ignore[dict-item]


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


def _check_training(config: dict[str, Any]) -> None:
    """Raise ConfigError for settings that contradict each other, before any data is collected or opened."""
    settings: TrainingSettings = fill(TrainingSettings, config["training"])
    settings.check_horizon(fill(Horizon, config["horizon"]))


def sweep(verb: str, words: Sequence[str]) -> list[list[str]]:
    """`--multirun`: every combination of the words that hold several values (a=1,2,3 or a=range(1,4)).

    Each combination writes to a place of its own: the values are added to the name of what the verb writes.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(_named(verb, words))
    except HydraException as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    varied = [o for o in parsed if o.is_sweep_override()]
    fixed = [o.input_line or "" for o in parsed if not o.is_sweep_override()]
    values = [list(o.sweep_string_iterator()) for o in varied]
    runs = []
    for combination in itertools.product(*values):
        chosen = [f"{o.key_or_group}={value}" for o, value in zip(varied, combination, strict=True)]
        runs.append([*fixed, *chosen, *_own_places(verb, fixed, combination)])
    return runs


def _own_places(verb: str, fixed: Sequence[str], combination: Sequence[str]) -> list[str]:
    """The words that give a combination its own outputs."""
    if not combination:
        return []
    places = [_own_place(verb, key, fixed, combination) for key in OUTPUT[verb]]
    found: list[str] = []
    for word in places:
        if word:
            found.append(word)
    return found


def _own_place(verb: str, key: str, fixed: Sequence[str], combination: Sequence[str]) -> str:
    """The word for one output; none where nothing is written, or the user's own word already differs, by `${...}`."""
    given = next((w.partition("=")[2].strip("'") for w in fixed if w.startswith(f"{key}=")), None)
    default = next(f.default for f in fields(VERBS[verb]) if f.name == key)
    place = str(default if given is None else given)
    if not place or "${" in (given or ""):
        return ""
    stem, ending = re.fullmatch(r"(.*?)(\.json|\.zarr)?", place).groups()  # type: ignore[union-attr]
    values = []  # no folders, quotes or brackets
    for value in combination:
        values.append(re.sub(r"[^\w.+-]+", "-", value).strip("-"))
    return f"{key}='{'_'.join([stem, *values])}{ending or ''}'"


def check_places(verb: str, configs: Sequence[Mapping[str, Any]]) -> None:
    """Raise ConfigError where two combinations of a sweep would write to one place, the second over the first."""
    for key in OUTPUT[verb]:
        places = []
        for config in configs:
            if config[key]:
                places.append(config[key])
        twice = next((place for place in places if places.count(place) > 1), None)
        if twice is not None:
            raise ConfigError(
                f"two combinations of --multirun would write to {key}={twice}: leave {key} out, or tell them apart in it, "
                f"as {key}='NAME_${{seed}}'"
            )


def help_text(verb: str, words: Sequence[str] = ()) -> str:
    """Choices, keys, defaults and meanings of a verb, in plain words; `words` that choose a part ask for its own keys."""
    cls, name = VERBS[verb], positional(verb)
    used = [f.name for f in fields(cls) if f.name in groups()]
    asked = {word.partition("=")[0] for word in words} & set(used) - {"task"}
    lines = [
        f"hotstart {verb} {f'[{name.upper()}] ' if name else ''}[key=value ...]",
        "",
        cleandoc(cls.__doc__ or ""),
        "",
    ]
    lines += [_group_line(verb, group) for group in used]
    lines += [
        _key_line(f.name, f) for f in fields(cls) if "help" in f.metadata and f.name not in used
    ]
    for part, settings in (
        ("horizon", Horizon),
        ("training", TrainingSettings),
        ("training.regimes", Regimes),
    ):
        if part.partition(".")[0] in {f.name for f in fields(cls)}:
            lines += [
                "",
                *(
                    _key_line(f"{part}.{f.name}", f, 28)
                    for f in fields(settings)
                    if f.name != "regimes"
                ),
            ]
    if "task" in used:
        lines += [
            "",
            *(f"  {f'task.{f.name}=':<16} {f.metadata['help']}" for f in fields(TaskConfig)),
            "",
        ]
        lines.append(
            f"`hotstart {verb} --help task=lift` lists the options of a task's environment."
        )
    if set(used) - {"task"}:
        part = next(group for group in used if group != "task")
        lines.append(
            f"`hotstart {verb} --help {part}={_default_choice(verb, part)}` lists the keys of a part."
        )
    return "\n".join([*lines, *(_part_lines(verb, sorted(asked), words) if asked else [])])


def task_file(name: str) -> dict[str, Any]:
    """What the file of the task `name` says: its environment and options; raises ConfigError for an unknown task."""
    if name not in choices("task"):
        raise ConfigError(unknown("task", name, choices("task")))
    text = (resources.files(MODULE) / "task" / f"{name}.yaml").read_text()
    return OmegaConf.to_container(OmegaConf.create(text))  # type: ignore[return-value]


def _group_line(verb: str, group: str) -> str:
    """What can be chosen for an axis."""
    item = next(f for f in fields(VERBS[verb]) if f.name == group)
    if "help" in item.metadata:
        meaning = f"{item.metadata['help']}: "
    else:
        meaning = ""
    return f"  {group + '=':<14} {meaning}one of {', '.join(choices(group))} [default {_default_choice(verb, group)}]"


def _default_choice(verb: str, group: str) -> str:
    """What an axis is where it is not given."""
    listed: Any = OmegaConf.create((resources.files(MODULE) / f"{verb}.yaml").read_text()).defaults
    named = [entry for entry in listed if not isinstance(entry, str)]
    found = [entry.get(group) or entry.get(f"optional {group}") for entry in named]
    return next((choice for choice in found if choice), "none")


def _key_line(name: str, item: Any, width: int = 14) -> str:
    """A key with its meaning and its default."""
    return f"  {name + '=':<{width}} {item.metadata['help']} [{_shown(item)}]"


def _part_lines(verb: str, parts: Sequence[str], words: Sequence[str]) -> list[str]:
    """Keys and defaults of parts as `words` choose them; the task is left out, whose file may ask for words of its own."""
    _register()
    chosen = []
    for word in _named(verb, words):
        if word.partition("=")[0] in parts:
            chosen.append(word)
    with initialize_config_module(MODULE, version_base="1.3"):
        try:
            config: Any = compose(verb, overrides=chosen)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_explain(error, verb, chosen)) from error
    text = OmegaConf.to_yaml(OmegaConf.create({part: config[part] for part in parts}))
    kept = [line for line in text.splitlines() if "_target_" not in line]
    return [
        "",
        "Keys with their defaults (write them with dots, as denoiser.groups=4):",
        "",
        *(f"  {line}" for line in kept),
    ]


def _shown(item: Any) -> str:
    if item.default is NO_DEFAULT:
        default = item.default_factory()
    else:
        default = item.default
    if default == "???":
        return "must be given"
    if default in (None, ""):
        return "default none"
    return f"default {str(default).lower() if isinstance(default, bool) else default}"


def _named(verb: str, words: Sequence[str]) -> list[str]:
    """Words as overrides: the positional one gets its name, dashes are refused; an environment judges its options itself."""
    named, key = [], positional(verb)
    for text in words:
        if text.startswith("-"):
            raise ConfigError(
                f"{text!r} is not understood; choices are written key=value, and `hotstart {verb} --help` lists them"
            )
        if "=" not in text:
            if key is None or any(n.startswith(f"{key}=") for n in named):
                raise ConfigError(f"{text!r} is one word too many; choices are written key=value")
            text = f"{key}='{text}'"
        named.append(f"++{text}" if text.startswith(OPTIONS) else text)
    return named


def _usage(verb: str, name: str) -> str:
    if positional(verb) == name:
        return name.upper()
    return f"{name}=..."


def _register() -> None:
    """Put the structure of every verb and of every registered target into Hydra's store."""
    GlobalHydra.instance().clear()
    store = ConfigStore.instance()
    for verb, cls in VERBS.items():
        store.store(name=f"schema_{verb}", node=cls)
    store.store(name="schema_horizon", node=node_of(Horizon))
    store.store(name="schema_training", node=node_of(TrainingSettings))
    for axis, targets in TARGETS.items():
        for target in targets:
            _store_target(store, axis, target, f"schema_{target.rsplit('.', 1)[1]}")
    for name, entry in added("hotstart.encoders").items():
        _store_target(store, "encoder", entry.target.replace(":", "."), name)


def _store_target(store: ConfigStore, axis: str, target: str, name: str) -> None:
    module, _, attribute = target.rpartition(".")
    store.store(
        group=axis, name=name, node=node_of(getattr(import_module(module), attribute), target)
    )


def _explain(error: Exception, verb: str, words: Sequence[str]) -> str:
    """Hydra's complaint in plain words, with the valid choices and the nearest of them."""
    text = str(error.__cause__ or error)
    option = re.search(r"Could not find '(\w+)/([\w.-]+)'", str(error))
    if option:
        group, name = option.groups()
        valid = choices(group)
        return f"{group}={name} is unknown{nearest(name, valid)}; valid: {', '.join(valid)}"
    key = re.search(r"Key '([\w]+)' (?:is not in struct|not in '\w+')", text) or re.search(
        r"key '(\w+)'", text
    )
    if key and ("not in" in text):
        full = re.search(r"full_key: ([\w.]+)", text)
        if full:
            path = full.group(1)
        else:
            path = key.group(1)
        valid = _siblings(verb, path, words)
        near = nearest(path.rsplit(".", 1)[-1], valid)
        return f"there is no {path!r} in hotstart {verb}{near}; valid there: {', '.join(valid)}"
    return text.splitlines()[0] + _where(text)


def _where(text: str) -> str:
    full = re.search(r"full_key: ([\w.\[\]]+)", text)
    if full:
        return f" (at {full.group(1)})"
    return ""


def _siblings(verb: str, path: str, words: Sequence[str]) -> list[str]:
    """The keys that exist beside `path`."""
    known = groups()
    try:
        node: Any = compose(verb, overrides=[w for w in words if w.split("=")[0] in known])
    except (HydraException, OmegaConfBaseException):
        return []
    for part in path.split(".")[:-1]:
        node = node.get(part)
    if isinstance(node, DictConfig):
        found: list[str] = []
        for k in node:
            if k != "_target_":
                found.append(str(k))
        return found
    return []
