"""Checkpoints of format 1, converted as they are read: their files call some things by other names.

The only place that knows these names. Nothing on disk is changed; what is saved later has format 2.
A name that is not listed here is left as it is, and refused as any unknown one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from ...spec import CheckpointError, shorten
from ...system.old_names import convert_task_options, rename_keys

META_KEYS = {"action_half_range": "action_scale"}
TRAINING_KEYS = {"uncertainty": "learned_weighting"}
CONFIG_KEYS = {"uncertain": "learned_weighting"}
DENOISERS = "hotstart.policy.denoisers"
ENCODERS = "hotstart.policy.encoders"
PART_KEYS = {
    f"{DENOISERS}.mode.ModeTransformer": {"drawn": "stochastic_routing"},
    f"{ENCODERS}.language.Instructed": {"words": "text_encoder", "dropped": "condition_dropout"},
}
"""Old `_target_` of a part -> its old keys and what they are called now."""
PART_VALUES = {
    f"{ENCODERS}.language.Instructed": {
        "_target_": {
            f"{ENCODERS}.language.Instructed": f"{ENCODERS}.language.InstructionEncoder",
        }
    },
    "hotstart.policy.actions.Representation": {"rotation": {"matrix": "rotation_6d"}},
}
"""Old `_target_` of a part -> key -> its old values and what they are called now."""
TENSORS = (
    (r"^normalizer\.(.+)__half_range$", r"normalizer.\1__scale"),
    (r"^uncertainty\.", "learned_weighting."),
    (r"^encoder\.words\.", "encoder.text_encoder."),
    (r"^encoder\.nothing$", "encoder.unconditional_token"),
    (r"^(network\..+\.experts)\.widen$", r"\1.up_projection"),
    (r"^(network\..+\.experts)\.narrow$", r"\1.down_projection"),
)
"""Patterns of old names of tensors, and the new names; in training_state/ behind `model.`."""
STATE_PREFIX = "model."
Value = TypeVar("Value")


def convert_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """meta.json by the names of today; `format` stays, since the other files are of that format."""
    converted = dict(rename_keys(meta, META_KEYS))
    if "training" in converted:
        converted["training"] = rename_keys(converted["training"], TRAINING_KEYS)
    task = converted.get("task")
    if isinstance(task, Mapping) and "options" in task:
        converted["task"] = {**task, "options": convert_task_options(task["options"])}
    return converted


def convert_config(plain: Any) -> Any:
    """config.yaml by the names of today; what is no mapping comes back as it is."""
    converted = rename_keys(plain, CONFIG_KEYS)
    if not isinstance(converted, Mapping):
        return converted
    return {key: _convert_part(part) for key, part in converted.items()}


def _convert_part(part: Any) -> Any:
    """A part of the model, and the parts inside it, as an encoder that another one wraps."""
    if not isinstance(part, Mapping):
        return part
    target = str(part.get("_target_"))
    converted = {}
    for key, value in rename_keys(part, PART_KEYS.get(target, {})).items():
        values = PART_VALUES.get(target, {}).get(key, {})
        if isinstance(value, str):
            converted[key] = values.get(value, value)
        else:
            converted[key] = _convert_part(value)
    return converted


def convert_tensors(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """Tensors, or their shapes, by the names of today, in the same order.

    Raises CheckpointError where two would have one name.
    """
    converted: dict[str, Value] = {}
    for name, tensor in tensors.items():
        new = _rename_tensor(name)
        if new in converted:
            raise CheckpointError(
                f"the checkpoint holds {shorten(new)} twice, by its old name and by its new one"
            )
        converted[new] = tensor
    return converted


def _rename_tensor(name: str) -> str:
    if name.startswith(STATE_PREFIX):
        return STATE_PREFIX + _rename_tensor(name.removeprefix(STATE_PREFIX))
    for pattern, new in TENSORS:
        name = re.sub(pattern, new, name)
    return name
