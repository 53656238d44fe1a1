"""LeRobot's DiffusionPolicy folders (config.json and safetensors) as checkpoints of ours: nothing is trained, nothing is lost.

Its network was trained with one noise level for a whole plan, so it can be sampled fresh, warm-started and guided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...spec import ActionDim, ActionSpec, CheckpointError, Horizon, ObsKey, ObsSpec, cut, shorten
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

STATE_KEY, ENVIRONMENT_KEY, ACTION_KEY = (
    "observation.state",
    "observation.environment_state",
    "action",
)
WANTED = {"beta_schedule": "squaredcos_cap_v2", "clip_sample": True, "clip_sample_range": 1.0}
"""What a configuration must say; anything else would be sampled differently here."""
PREDICTIONS = {"epsilon": "eps", "sample": "x0"}
KINDS: dict[str, Any] = {
    **dict.fromkeys(("input_features", "output_features", "normalization_mapping"), dict),
    **dict.fromkeys(("n_obs_steps", "horizon", "n_action_steps", "kernel_size", "n_groups"), int),
    **dict.fromkeys(
        ("diffusion_step_embed_dim", "num_train_timesteps", "spatial_softmax_num_keypoints"), int
    ),
    "down_dims": list[int],
    **dict.fromkeys(
        ("use_film_scale_modulation", "use_group_norm", "use_separate_rgb_encoder_per_camera"), bool
    ),
    **dict.fromkeys(("prediction_type", "vision_backbone"), str),
}
"""Keys that a configuration must hold, and their types."""
OPTIONAL_KINDS: dict[str, Any] = {"crop_shape": list[int] | None, "resize_shape": list[int] | None}
FEATURE_TYPES = ("STATE", "VISUAL", "ENV", "ACTION")
EPS = 1e-8
"""What LeRobot adds to a standard deviation before it divides by it."""
Stats = Mapping[str, Mapping[str, np.ndarray]]
Range = tuple[np.ndarray, np.ndarray]


def import_policy(folder: Path, names: Mapping[str, str] | None = None) -> PolicyModel:
    """The policy in `folder`; `names` says what its observations are called here (default: see `call_inputs`).

    Raises CheckpointError where the folder holds no DiffusionPolicy, one that is damaged, or one that cannot be run the same
    way.
    """
    config = _read_config(folder)
    try:
        return _import(folder, config, names or {})
    except CheckpointError:
        raise
    except BROKEN as error:
        raise CheckpointError(f"{folder} cannot be imported: {cut(str(error))}") from error


def trained_in(folder: Path) -> tuple[float | None, str | None]:
    """The rate [Hz] and the environment that a folder says it was trained in, as far as its train_config.json tells."""
    path = folder / "train_config.json"
    if not path.is_file():
        return None, None
    found = read_json(path, CheckpointError)
    if isinstance(found, dict):
        environment = found.get("env")
    else:
        environment = None
    if not isinstance(environment, dict):
        return None, None
    rate, name = environment.get("fps"), environment.get("type")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1e5:
        rate = None
    if not isinstance(name, str):
        name = None
    return rate, name


def _import(folder: Path, config: Mapping[str, Any], names: Mapping[str, str]) -> PolicyModel:
    tensors = read_tensors(folder / "model.safetensors")
    statistics = _statistics(folder, tensors)
    features = _inputs(config)
    called = call_inputs(list(features), names)
    model_config = ModelConfig(
        encoder=_encoder(config, features, statistics),
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
        obs_spec=ObsSpec({called[name]: _key(feature) for name, feature in features.items()}),
        action_spec=_action_spec(config),
        horizon=Horizon(config["n_obs_steps"], config["horizon"], config["n_action_steps"]),
        prediction=PREDICTIONS[config["prediction_type"]],
    )
    states = [name for name, feature in features.items() if feature["type"] != "VISUAL"]
    ranges = {called[name]: _range(config, features[name], name, statistics) for name in states}
    ranges[ACTION] = _range(config, config["output_features"][ACTION_KEY], ACTION_KEY, statistics)
    return assemble(model_config, tensors, ranges)


def call_inputs(features: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """What each input is called here: as `names` says, else by the last part of its name, or more of them to tell two apart.

    Raises CheckpointError where two inputs get one name all the same.
    """
    called = {feature: names.get(feature) or _last_parts(feature, features) for feature in features}
    for name in called.values():
        both = [feature for feature in features if called[feature] == name]
        if len(both) > 1:
            raise CheckpointError(
                f"the inputs {' and '.join(both)} would both be called {name!r}: names={both[0]}:OTHER"
            )
    if ACTION in called.values():
        raise CheckpointError(
            f"an input would be called {ACTION!r}, as the actions are: rename it with names="
        )
    return called


def _last_parts(feature: str, features: Sequence[str]) -> str:
    """As few of the last parts of a dotted name as no other has."""
    parts = feature.split(".")
    for count in range(1, len(parts) + 1):
        ending = parts[-count:]
        if sum(other.split(".")[-count:] == ending for other in features) == 1:
            return "_".join(ending)
    return "_".join(parts)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = read_json(path, CheckpointError)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; a folder that LeRobot's save_pretrained wrote is wanted"
        ) from error
    if not isinstance(config, dict) or config.get("type") != "diffusion":
        if isinstance(config, dict):
            kind = config.get("type")
        else:
            kind = config
        raise CheckpointError(
            f"{path} is of a {shorten(kind)} policy; only LeRobot's diffusion can be imported"
        )
    for key, value in WANTED.items():
        if config.get(key, value) != value:
            raise CheckpointError(
                f"{path} says {key}={shorten(config[key])}; only {value!r} can be run the same way here"
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
    for part in ("input_features", "output_features"):
        for name, feature in config[part].items():
            _check_feature(name, feature, path)
    if ACTION_KEY not in config["output_features"]:
        raise CheckpointError(f"{path}: output_features lacks {ACTION_KEY!r}")
    return config


def _check_feature(name: str, feature: object, path: Path) -> None:
    """Raise CheckpointError unless a feature has a type that is known and the shape of such a thing."""
    if isinstance(feature, dict):
        shape = feature.get("shape")
    else:
        shape = None
    if isinstance(feature, dict):
        kind = feature.get("type")
    else:
        kind = None
    if kind == "VISUAL":
        sides = 3
    else:
        sides = 1
    if (
        kind not in FEATURE_TYPES
        or not fits(shape, list[int])
        or len(shape or ()) != sides
        or min(shape or (0,)) < 1
    ):
        raise CheckpointError(
            f"{path}: the feature {shorten(name)} is {shorten(feature)}; a type ({', '.join(FEATURE_TYPES)}) and a shape of "
            f"whole numbers are wanted, three for VISUAL and one for the others"
        )


def _inputs(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The policy's inputs in the order that its network joins them: state, cameras, environment."""
    given = config["input_features"]
    cameras = [name for name, feature in given.items() if feature["type"] == "VISUAL"]
    known = [STATE_KEY, *cameras, *([ENVIRONMENT_KEY] if ENVIRONMENT_KEY in given else [])]
    other = sorted(set(given) - set(known))
    if other or STATE_KEY not in given or STATE_KEY in cameras or ENVIRONMENT_KEY in cameras:
        raise CheckpointError(
            f"its inputs are {shorten(sorted(given), 400)}; {STATE_KEY}, cameras and {ENVIRONMENT_KEY} are known"
        )
    return {name: given[name] for name in known}


def _key(feature: Mapping[str, Any]) -> ObsKey:
    shape = tuple(feature["shape"])
    if feature["type"] == "VISUAL":
        return ObsKey((*shape[1:], shape[0]), "uint8", "image")
    return ObsKey(shape)


def _action_spec(config: Mapping[str, Any]) -> ActionSpec:
    (width,) = config["output_features"][ACTION_KEY]["shape"]
    if width > 10_000:
        raise CheckpointError(f"its actions are {width} wide; at most 10000 numbers are possible")
    return ActionSpec(tuple(ActionDim(f"action_{i}") for i in range(width)))


def _encoder(
    config: Mapping[str, Any], features: Mapping[str, Mapping[str, Any]], statistics: Stats
) -> dict[str, Any]:
    cameras = [name for name, feature in features.items() if feature["type"] == "VISUAL"]
    centres: list[float] = []
    scales: list[float] = []
    for name in cameras:
        centre, scale = _range(config, features[name], name, statistics)
        centres += [float(v) for v in np.ravel(centre)]
        scales += [float(v) for v in np.ravel(np.where(scale == 0, 1.0, scale))]
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


def _statistics(folder: Path, tensors: Mapping[str, Tensor]) -> Stats:
    """Statistics of every feature: from the processors' files, or, in older folders, from buffers beside the weights."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for path in sorted(folder.glob("*normalizer*.safetensors")):
        for name, tensor in read_tensors(path).items():
            _take_statistics(found, name, tensor)
    for name, tensor in tensors.items():
        if ".buffer_" in name:
            _take_statistics(found, name.split(".buffer_", 1)[1], tensor)
    return found


def _take_statistics(found: dict[str, dict[str, np.ndarray]], name: str, tensor: Tensor) -> None:
    if tensor.is_complex():
        raise CheckpointError(
            f"the statistics {shorten(name)} are complex numbers; real ones are wanted"
        )
    feature, _, kind = name.rpartition(".")
    found.setdefault(feature, {})[kind] = tensor.double().numpy()


def _range(
    config: Mapping[str, Any], feature: Mapping[str, Any], name: str, statistics: Stats
) -> Range:
    """(centre, scale) of a feature: what is taken off, and what is divided by; scale 0 is a constant action.

    LeRobot 0.6.1's rule: MEAN_STD divides by std + eps and multiplies by std; MIN_MAX takes a range of 0 for eps, so that a
    state that never changes becomes -1 and an action that never changes is the constant.
    """
    mode = config["normalization_mapping"].get(feature["type"], "IDENTITY")
    if feature["type"] != "VISUAL":
        shape = tuple(feature["shape"])
    else:
        shape = (feature["shape"][0],)
    if mode == "IDENTITY":
        return np.zeros(shape), np.ones(shape)
    if isinstance(mode, str):
        kinds = {"MEAN_STD": ("mean", "std"), "MIN_MAX": ("min", "max")}.get(mode)
    else:
        kinds = None
    if kinds is None:
        raise CheckpointError(
            f"{cut(name, 80)} is normalised by {cut(str(mode), 40)}; MEAN_STD, MIN_MAX and IDENTITY are known"
        )
    own = statistics.get(name) or statistics.get(name.replace(".", "_")) or {}
    missing = [kind for kind in kinds if kind not in own]
    if missing:
        raise CheckpointError(
            f"there are no statistics of {name} ({missing[0]}): the policy cannot be run without them"
        )
    first, second = (_read_statistic(own[kind], shape, f"{name}.{kind}") for kind in kinds)
    acts = feature["type"] == "ACTION"
    if mode == "MEAN_STD":
        if bool((second < 0).any()):
            raise CheckpointError(
                f"the standard deviations of {name} are {shorten(second)}; they must be at least 0"
            )
        return first, second if acts else np.where(second == 0, 0.0, second + EPS)
    if bool((second < first).any()):
        raise CheckpointError(
            f"the statistics of {name} have a min above the max: {shorten(first)}, {shorten(second)}"
        )
    half = (second - first) / 2
    if acts:
        return np.where(half == 0, first, (first + second) / 2), half
    constant = half == 0
    return np.where(constant, first + 1, (first + second) / 2), np.where(constant, 1.0, half)


def _read_statistic(values: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Statistics of that many finite numbers, as float32 can hold them."""
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
    """A model from weights by LeRobot's names and from the ranges of its actions and states.

    Raises CheckpointError where the weights are not those of the configuration, or no finite numbers.
    """
    given = _rename(tensors)
    outline = build_outline(config, {name: tuple(tensor.shape) for name, tensor in given.items()})
    normalizer = Normalizer.from_ranges(ranges, outline.normalizer.shapes)
    given |= {f"normalizer.{name}": tensor for name, tensor in normalizer.state_dict().items()}
    wanted = outline.state_dict()
    missing, extra = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    if missing or extra:
        if missing:
            what = f"lacks {missing[0]}"
        else:
            what = f"holds {shorten(extra[0])}, which is not known"
        raise CheckpointError(f"the folder's weights do not fit its configuration: it {what}")
    for name, tensor in given.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{tuple(tensor.shape)}; {tuple(wanted[name].shape)}"
            raise CheckpointError(
                f"the folder's {name} has shape {shapes} was expected from its configuration"
            )
    check_values(given, wanted, "the folder")
    model = PolicyModel(config)
    model.load_state_dict(given)
    model.regimes = ("constant",)
    return model.eval().requires_grad_(False)


def _rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The policy's weights by our names; what else lies beside them is left out."""
    given: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith("diffusion.unet."):
            given["network." + name.removeprefix("diffusion.unet.")] = tensor
        elif name.startswith("diffusion.rgb_encoder.") and not name.endswith("pool.pos_grid"):
            rest = name.removeprefix("diffusion.rgb_encoder.")
            given[f"encoder.rgb_encoder.{rest if rest[:1].isdigit() else f'0.{rest}'}"] = tensor
    return given
