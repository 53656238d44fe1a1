"""LeRobot's DiffusionPolicy folders (config.json, safetensors), read as policies of this package.

Nothing is trained again, and the weights stay as they are. LeRobot trains its network with one
noise level for a whole plan, so the policy can be sampled fresh, warm-started and guided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...spec import ActionSpec, CheckpointError, Horizon, ObsKey, ObsSpec, cut, shorten
from ...system.plugins import fits, words_of
from ...system.untrusted import read_json
from ..checkpoint import BROKEN
from ..checkpoint.outline import build_outline, check_values, read_tensors
from ..denoisers.published_unet import PublishedUnet
from ..diffusion.schedule import IndexTable
from ..encoders.published import PublishedEncoder
from ..model import ModelConfig, PolicyModel
from ..normalizer import ACTION, Normalizer
from ..training.api import node

STATE_KEY = "observation.state"
ENVIRONMENT_KEY = "observation.environment_state"
ACTION_KEY = "action"
WANTED = {"beta_schedule": "squaredcos_cap_v2", "clip_sample": True, "clip_sample_range": 1.0}
"""Values that a configuration must have; with others it would be sampled differently here."""
PREDICTIONS = {"epsilon": "eps", "sample": "x0"}
KINDS: dict[str, Any] = {
    "input_features": dict,
    "output_features": dict,
    "normalization_mapping": dict,
    "n_obs_steps": int,
    "horizon": int,
    "n_action_steps": int,
    "kernel_size": int,
    "n_groups": int,
    "diffusion_step_embed_dim": int,
    "num_train_timesteps": int,
    "spatial_softmax_num_keypoints": int,
    "down_dims": list[int],
    "use_film_scale_modulation": bool,
    "use_group_norm": bool,
    "use_separate_rgb_encoder_per_camera": bool,
    "prediction_type": str,
    "vision_backbone": str,
}
"""Keys that a configuration must hold, and their types."""
OPTIONAL_KINDS: dict[str, Any] = {"crop_shape": list[int] | None, "resize_shape": list[int] | None}
CAMERA = "VISUAL"
FEATURE_TYPES = ("STATE", CAMERA, "ENV", "ACTION")
STATISTICS = {"MEAN_STD": ("mean", "std"), "MIN_MAX": ("min", "max")}
"""Way of normalising -> the two statistics that it needs."""
WIDEST = 10_000
"""Numbers that an action may have."""
EPS = 1e-8
"""What LeRobot adds to a standard deviation before it divides by it."""
Json = Mapping[str, Any]
"""An object of a JSON file: the whole configuration, or one feature of it."""
Stats = Mapping[str, Mapping[str, np.ndarray]]
"""Feature -> kind of statistic ("mean", "min", ...) -> its numbers."""
Range = tuple[np.ndarray, np.ndarray]
"""(centre, scale) of a feature: normalising takes off the centre and divides by the scale."""


def import_policy(folder: Path, names: Mapping[str, str] | None = None) -> PolicyModel:
    """The policy in `folder`, in evaluation mode.

    names: LeRobot's name of an input -> its name here; the others are named by `call_inputs`

    Raises CheckpointError where the folder is damaged, holds no DiffusionPolicy, or holds one that
    cannot be run the same way here.
    """
    config = _read_config(folder)
    try:
        return _import(folder, config, names or {})
    except CheckpointError:
        raise
    except BROKEN as error:
        raise CheckpointError(f"{folder} cannot be imported: {cut(str(error))}") from error


def read_origin(folder: Path) -> tuple[float | None, str | None]:
    """The rate [Hz] and the environment's name of the training, from train_config.json.

    Each is None where the folder does not tell. Raises CheckpointError for a file that is no JSON.
    """
    path = folder / "train_config.json"
    if not path.is_file():
        return None, None
    found = read_json(path, CheckpointError)
    environment = None
    if isinstance(found, dict):
        environment = found.get("env")
    if not isinstance(environment, dict):
        return None, None
    rate, name = environment.get("fps"), environment.get("type")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1e5:
        rate = None
    if not isinstance(name, str):
        name = None
    return rate, name


def _import(folder: Path, config: Json, names: Mapping[str, str]) -> PolicyModel:
    tensors = read_tensors(folder / "model.safetensors")
    statistics = _read_statistics(folder, tensors)
    features = _list_inputs(config)
    called = call_inputs(list(features), names)
    encoder = _describe_encoder(config, features, statistics)
    action = config["output_features"][ACTION_KEY]
    keys: dict[str, ObsKey] = {}
    ranges = {ACTION: _read_range(config, action, ACTION_KEY, statistics)}
    for name, feature in features.items():
        keys[called[name]] = _make_key(feature)
        if feature["type"] != CAMERA:
            ranges[called[name]] = _read_range(config, feature, name, statistics)
    model_config = ModelConfig(
        encoder=encoder,
        denoiser=node(
            PublishedUnet,
            channels=config["down_dims"],
            kernel=config["kernel_size"],
            groups=config["n_groups"],
            step_width=config["diffusion_step_embed_dim"],
            scaled=config["use_film_scale_modulation"],
            indices=config["num_train_timesteps"],
        ),
        schedule=node(IndexTable, indices=config["num_train_timesteps"]),
        obs_spec=ObsSpec(keys),
        action_spec=_make_action_spec(action),
        horizon=Horizon(config["n_obs_steps"], config["horizon"], config["n_action_steps"]),
        prediction=PREDICTIONS[config["prediction_type"]],
    )
    return assemble(model_config, tensors, ranges)


def call_inputs(features: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """What each input is called here: LeRobot's name -> ours.

    An input that `names` leaves out gets the last part of its dotted name, or as many of the last
    parts as tell it from the others. Raises CheckpointError where two inputs get the same name, or
    one gets the name of the actions.
    """
    called: dict[str, str] = {}
    owners: dict[str, str] = {}
    for feature in features:
        name = names.get(feature) or _join_last_parts(feature, features)
        if name in owners:
            raise CheckpointError(
                f"the inputs {owners[name]} and {feature} would both be called {name!r}: "
                f"names={owners[name]}:OTHER"
            )
        called[feature] = name
        owners[name] = feature
    if ACTION in owners:
        raise CheckpointError(
            f"an input would be called {ACTION!r}, as the actions are: rename it with names="
        )
    return called


def _join_last_parts(feature: str, features: Sequence[str]) -> str:
    """The last parts of a dotted name, as few as no other name ends with."""
    parts = feature.split(".")
    for count in range(1, len(parts) + 1):
        endings = [other.split(".")[-count:] for other in features]
        if endings.count(parts[-count:]) == 1:
            return "_".join(parts[-count:])
    return "_".join(parts)


def _read_config(folder: Path) -> dict[str, Any]:
    """The configuration; raises CheckpointError unless it can be run here as LeRobot runs it."""
    path = folder / "config.json"
    try:
        config = read_json(path, CheckpointError)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; a folder that LeRobot's save_pretrained wrote is wanted"
        ) from error
    kind = config
    if isinstance(config, dict):
        kind = config.get("type")
    if not isinstance(config, dict) or kind != "diffusion":
        raise CheckpointError(
            f"{path} is of a {shorten(kind)} policy; only LeRobot's diffusion can be imported"
        )
    _check_values(config, path)
    for part in ("input_features", "output_features"):
        for name, feature in config[part].items():
            _check_feature(name, feature, path)
    if ACTION_KEY not in config["output_features"]:
        raise CheckpointError(f"{path}: output_features lacks {ACTION_KEY!r}")
    return config


def _check_values(config: Json, path: Path) -> None:
    """Raise CheckpointError for a missing key and for a value that cannot be used here."""
    for key, value in WANTED.items():
        if config.get(key, value) != value:
            raise CheckpointError(
                f"{path} says {key}={shorten(config[key])}; "
                f"only {value!r} can be run the same way here"
            )
    for key, kind in {**KINDS, **OPTIONAL_KINDS}.items():
        if key in KINDS and key not in config:
            raise CheckpointError(f"{path} lacks {key}, which LeRobot's save_pretrained writes")
        if not fits(config.get(key), kind):
            raise CheckpointError(
                f"{path} says {key}={shorten(config.get(key))}; it must be {words_of(kind)}"
            )
    if config["prediction_type"] not in PREDICTIONS:
        known = ", ".join(PREDICTIONS)
        raise CheckpointError(
            f"{path} says prediction_type={shorten(config['prediction_type'])}; {known} are known"
        )


def _check_feature(name: str, feature: object, path: Path) -> None:
    """Raise CheckpointError unless a feature has a known type and a shape of that type."""
    entry: dict[str, Any] = {}
    if isinstance(feature, dict):
        entry = feature
    kind = entry.get("type")
    shape = entry.get("shape", [])
    sides = 1
    if kind == CAMERA:
        sides = 3
    sized = fits(shape, list[int]) and len(shape) == sides and min(shape) >= 1
    if kind not in FEATURE_TYPES or not sized:
        raise CheckpointError(
            f"{path}: the feature {shorten(name)} is {shorten(feature)}; "
            f"a type ({', '.join(FEATURE_TYPES)}) and a shape of whole numbers are wanted, "
            f"three for {CAMERA} and one for the others"
        )


def _list_inputs(config: Json) -> dict[str, Json]:
    """Name -> feature, in the order in which the network joins them: state, cameras, environment.

    Raises CheckpointError where the state is missing or there are other inputs.
    """
    given = config["input_features"]
    cameras: dict[str, Json] = {}
    vectors: dict[str, Json] = {}
    for name, feature in given.items():
        if feature["type"] == CAMERA:
            cameras[name] = feature
        else:
            vectors[name] = feature
    other = vectors.keys() - {STATE_KEY, ENVIRONMENT_KEY}
    if other or STATE_KEY not in vectors or ENVIRONMENT_KEY in cameras:
        raise CheckpointError(
            f"its inputs are {shorten(sorted(given), 400)}; "
            f"{STATE_KEY}, cameras and {ENVIRONMENT_KEY} are known"
        )
    state = vectors.pop(STATE_KEY)
    return {STATE_KEY: state, **cameras, **vectors}


def _make_key(feature: Json) -> ObsKey:
    """A state (N,), or pictures (H, W, C) of what LeRobot has as (C, H, W)."""
    shape = tuple(feature["shape"])
    if feature["type"] == CAMERA:
        return ObsKey((*shape[1:], shape[0]), "uint8", "image")
    return ObsKey(shape)


def _make_action_spec(feature: Json) -> ActionSpec:
    """Actions (A,) of numbers without names; raises CheckpointError for more than `WIDEST`."""
    (width,) = feature["shape"]
    if width > WIDEST:
        raise CheckpointError(
            f"its actions are {width} wide; at most {WIDEST} numbers are possible"
        )
    return ActionSpec.plain(width)


def _describe_encoder(
    config: Json, features: Mapping[str, Json], statistics: Stats
) -> dict[str, Any]:
    """The encoder's options, with the mean and deviation of each camera's colours."""
    centres: list[float] = []
    scales: list[float] = []
    for name, feature in features.items():
        if feature["type"] == CAMERA:
            centre, scale = _read_range(config, feature, name, statistics)
            centres += centre.tolist()
            scales += np.where(scale == 0, 1.0, scale).tolist()
    return node(
        PublishedEncoder,
        backbone=config["vision_backbone"],
        keypoints=config["spatial_softmax_num_keypoints"],
        grouped=config["use_group_norm"],
        separate=config["use_separate_rgb_encoder_per_camera"],
        crop=list(config.get("crop_shape") or ()),
        resize=list(config.get("resize_shape") or ()),
        image_mean=centres,
        image_std=scales,
    )


def _read_statistics(folder: Path, tensors: Mapping[str, Tensor]) -> Stats:
    """Statistics of every feature.

    They come from the processors' files or, in older folders, from buffers beside the weights.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for path in sorted(folder.glob("*normalizer*.safetensors")):
        for name, tensor in read_tensors(path).items():
            _add_statistic(found, name, tensor)
    for name, tensor in tensors.items():
        if ".buffer_" in name:
            _add_statistic(found, name.split(".buffer_", 1)[1], tensor)
    return found


def _add_statistic(found: dict[str, dict[str, np.ndarray]], name: str, tensor: Tensor) -> None:
    """Add a tensor by its dotted name, FEATURE.KIND; raises CheckpointError for complex numbers."""
    if tensor.is_complex():
        raise CheckpointError(
            f"the statistics {shorten(name)} are complex numbers; real ones are wanted"
        )
    feature, kind = name.rpartition(".")[::2]
    found.setdefault(feature, {})[kind] = tensor.double().numpy()


def _read_range(config: Json, feature: Json, name: str, statistics: Stats) -> Range:
    """(centre, scale) of a feature: (N,), or (C,) for a camera; the scale 0 is a constant action.

    It follows LeRobot 0.6.1 (processor/normalize_processor.py). Raises CheckpointError for missing
    or impossible statistics and for an unknown way of normalising.
    """
    mode = config["normalization_mapping"].get(feature["type"], "IDENTITY")
    shape = tuple(feature["shape"])
    if feature["type"] == CAMERA:
        shape = shape[:1]
    if mode == "IDENTITY":
        return np.zeros(shape), np.ones(shape)
    if not isinstance(mode, str) or mode not in STATISTICS:
        raise CheckpointError(
            f"{cut(name, 80)} is normalised by {cut(str(mode), 40)}; "
            "MEAN_STD, MIN_MAX and IDENTITY are known"
        )
    own = statistics.get(name) or statistics.get(name.replace(".", "_")) or {}
    kinds = STATISTICS[mode]
    for kind in kinds:
        if kind not in own:
            raise CheckpointError(
                f"there are no statistics of {name} ({kind}): the policy cannot be run without them"
            )
    first = _reshape_statistic(own[kinds[0]], shape, f"{name}.{kinds[0]}")
    second = _reshape_statistic(own[kinds[1]], shape, f"{name}.{kinds[1]}")
    acts = feature["type"] == "ACTION"
    if mode == "MEAN_STD":
        return _divide_by_deviation(first, second, name, acts)
    return _map_to_unit_range(first, second, name, acts)


def _divide_by_deviation(mean: np.ndarray, std: np.ndarray, name: str, acts: bool) -> Range:
    """(centre, scale) of MEAN_STD: states are divided by std + eps, actions multiplied by std.

    Raises CheckpointError for a negative std.
    """
    if bool((std < 0).any()):
        raise CheckpointError(
            f"the standard deviations of {name} are {shorten(std)}; they must be at least 0"
        )
    if acts:
        return mean, std
    return mean, np.where(std == 0, 0.0, std + EPS)


def _map_to_unit_range(low: np.ndarray, high: np.ndarray, name: str, acts: bool) -> Range:
    """(centre, scale) of MIN_MAX, which maps [low, high] onto [-1, 1].

    LeRobot takes a range of 0 for eps: a state that never changes becomes -1, and an action that
    never changes is the constant. Raises CheckpointError for a min above its max.
    """
    if bool((high < low).any()):
        raise CheckpointError(
            f"the statistics of {name} have a min above the max: {shorten(low)}, {shorten(high)}"
        )
    half = (high - low) / 2
    centre = (low + high) / 2
    constant = half == 0
    if acts:
        return np.where(constant, low, centre), half
    return np.where(constant, low + 1, centre), np.where(constant, 1.0, half)


def _reshape_statistic(values: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    """The numbers of a statistic in this shape.

    Raises CheckpointError for another count of numbers, and for numbers that float32 cannot hold.
    """
    if values.size != np.prod(shape):
        raise CheckpointError(
            f"the statistics {where} have the shape {values.shape}; {shape} is wanted"
        )
    if not bool((np.abs(values) < np.finfo(np.float32).max / 4).all()):
        raise CheckpointError(
            f"the statistics {where} are {shorten(values)}; finite numbers are wanted"
        )
    return values.reshape(shape)


def assemble(
    config: ModelConfig, tensors: Mapping[str, Tensor], ranges: Mapping[str, Range]
) -> PolicyModel:
    """A model in evaluation mode, of weights by LeRobot's names.

    ranges: (centre, scale) of the actions and of each state, by their names here

    Raises CheckpointError where the weights do not fit the configuration or are no finite numbers.
    """
    given = _rename(tensors)
    outline = build_outline(config, {name: tensor.shape for name, tensor in given.items()})
    normalizer = Normalizer.from_ranges(ranges, outline.normalizer.shapes)
    given |= normalizer.state_dict(prefix="normalizer.")
    wanted = outline.state_dict()
    _check_shapes(given, wanted)
    check_values(given, wanted, "the folder")
    model = PolicyModel(config)
    model.load_state_dict(given)
    model.regimes = ("constant",)
    return model.eval().requires_grad_(False)


def _check_shapes(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for weights that are missing, left over or of another shape."""
    missing = sorted(wanted.keys() - given.keys())
    extra = sorted(given.keys() - wanted.keys())
    what = None
    if missing:
        what = f"lacks {missing[0]}"
    elif extra:
        what = f"holds {shorten(extra[0])}, which is not known"
    if what:
        raise CheckpointError(f"the folder's weights do not fit its configuration: it {what}")
    for name, tensor in given.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(
                f"the folder's {name} has shape {tuple(tensor.shape)}; "
                f"{tuple(wanted[name].shape)} was expected from its configuration"
            )


def _rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The policy's weights by our names; what else lies beside them is left out."""
    given: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith("diffusion.unet."):
            given["network." + name.removeprefix("diffusion.unet.")] = tensor
        elif name.startswith("diffusion.rgb_encoder.") and not name.endswith("pool.pos_grid"):
            rest = name.removeprefix("diffusion.rgb_encoder.")
            if not rest[:1].isdigit():
                rest = f"0.{rest}"
            given[f"encoder.rgb_encoder.{rest}"] = tensor
    return given
