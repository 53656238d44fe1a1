"""Finding environments by name: real imports, real entry points, and what a mistake says."""

import subprocess
import sys

import pytest
from hotstart.envs import registry
from hotstart.envs.base import TaskEnv
from hotstart.spec import CheckpointError, ConfigError
from hotstart.system.plugins import Entry

PLUGIN = """
import numpy as np
from hotstart.envs.base import TaskEnv
from hotstart.spec import ActionSpec, ObsKey, ObsSpec


class CountEnv(TaskEnv):
    def __init__(self, limit: int = 3) -> None:
        spec = ObsSpec({"count": ObsKey((1,), "int64")})
        super().__init__(
            obs_spec=spec, action_spec=ActionSpec.plain(1), action_low=-1, action_high=1,
            rate_hz=5, max_steps=limit
        )

    def _begin(self, options):
        self.count = 0

    def _advance(self, action, substeps):
        self.count += 1

    def _observe(self):
        return {"count": np.array([self.count])}

    def _judge(self):
        return self.count / 10, False

    def render(self):
        return np.zeros((4, 4, 3), np.uint8)
"""


@pytest.fixture
def plugin(plugin_package):
    """An installed distribution `counting_env` whose entry points add environments, broken ones
    and one with our name.
    """
    points = [
        "count = counting_env:CountEnv",
        "lost = counting_env:Gone",
        "broken = counting_not_there:Env",
    ]
    plugin_package(
        "counting_env", PLUGIN, {"hotstart.envs": [*points, "pusht = counting_env:CountEnv"]}
    )


def test_our_names_are_listed():
    assert {"lift", "pusht"} <= set(registry.names())
    assert registry.names() == sorted(registry.names())


def test_make_builds_with_options():
    pytest.importorskip("pymunk")
    env = registry.make("pusht", obs="state", max_steps=7)
    assert isinstance(env, TaskEnv)
    assert list(env.obs_spec.keys) == ["state"]
    assert env.max_steps == 7


def test_unknown_name_gives_the_nearest_and_all():
    with pytest.raises(
        ConfigError,
        match=r"unknown environment 'push_t' \(did you mean 'pusht'\?\); valid: .*lift.*pusht",
    ):
        registry.make("push_t")


def test_unknown_option_gives_the_valid_ones():
    pytest.importorskip("pymunk")
    with pytest.raises(
        ConfigError,
        match=r"'render_siz' \(did you mean 'render_size'\?\); valid: belt_px_s, goal, max_steps, "
        r"obs, render_size",
    ):
        registry.make("pusht", render_siz=96)


def test_missing_simulator_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymunk", None)  # python's own way to say: not installed
    monkeypatch.delitem(sys.modules, "hotstart.envs.pusht", raising=False)
    with pytest.raises(ConfigError, match=r'pymunk.*pip install "hotstart\[pusht\]"'):
        registry.make("pusht")


def test_fault_in_our_own_import_is_not_hidden(monkeypatch):
    monkeypatch.setitem(
        registry.REGISTRY.built_in, "absent", Entry("hotstart.envs.absent:Env", "nothing")
    )
    with pytest.raises(ModuleNotFoundError):
        registry.make("absent")


def test_simulators_are_imported_only_when_made():
    """A fresh interpreter that lists the names has loaded no simulator."""
    loaded = "{'pymunk', 'robosuite', 'mujoco'} & set(sys.modules)"
    code = f"import sys; from hotstart.envs import registry; registry.names(); print({loaded})"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "set()\n"
    )


@pytest.mark.usefixtures("plugin")
def test_entry_points_add_environments():
    assert {"count", "pusht"} <= set(registry.names())
    env = registry.make("count", limit=2)
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert info == {"success": False, "score": 0.0, "instruction": ""}
    assert env.step([0.0])[3] is False
    assert env.step([0.0])[1:] == (
        0.2,
        False,
        True,
        {"success": False, "score": 0.2, "instruction": ""},
    )
    assert env.metadata["render_fps"] == 5


@pytest.mark.usefixtures("plugin")
def test_plugins_cannot_take_our_names():
    assert registry.REGISTRY.entries()["pusht"].target == "hotstart.envs.pusht:PushTEnv"


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "message"),
    [("lost", "has no 'Gone'"), ("broken", 'counting_not_there.*pip install "counting_env"')],
)
def test_broken_plugins_are_named(name, message):
    with pytest.raises(ConfigError, match=message):
        registry.make(name)


def test_no_number_of_steps_leaves_the_environments_own():
    assert registry.options_of({"options": {"obs": "state"}, "max_steps": 0}) == {"obs": "state"}
    assert registry.options_of({"options": {}, "max_steps": 7}) == {"max_steps": 7}


# --- what a checkpoint says of its task

TOLD = {
    "name": "lift",
    "env": "lift",
    "options": {"control": "absolute"},
    "max_steps": 100,
    "obs_keys": ["object"],
}


def test_a_checkpoints_own_task_is_taken_where_its_options_are_plain():
    assert registry.check_task(TOLD) == TOLD
    kitchen = {
        "id": "FrankaKitchen-v1",
        "score": "success",
        "tasks_to_complete": ["light switch", "kettle"],
    }
    for options in (
        kitchen,
        {"cameras": {"agentview": 84}},
        {"goal": [1.0, 2, 0.5]},
        {"instruction": "lift it, please!"},
    ):
        assert registry.check_task({**TOLD, "options": options})["options"] == options


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"options": {"id": "evil_mark:Env-v0"}}, r"'id': 'evil_mark:Env-v0'.*say it\s+yourself"),
        ({"options": {"id": "GymV21Environment-v0", "env_id": "evil_mark:Env-v0"}}, "'env_id'"),
        ({"options": {"id": "GymV21Environment-v0", "make_kwargs": {}}}, "'make_kwargs'"),
        ({"options": {"id": "Ant-v5", "xml_file": "ant"}}, "'xml_file'"),
        ({"options": {"id": "Ant-v5", "model": "/etc/passwd"}}, "'model': '/etc/passwd'"),
        ({"options": {"model": "../a.xml"}}, "'model'"),
        ({"options": {"a": {"asset_path": "x"}}}, "'a'"),
        ({"options": {"a": [["x", ["y", ["z"]]]]}}, "'a'"),
        ({"options": {"render_size": 10**9}}, "'render_size': 1000000000"),
        ({"options": {"belt_px_s": float("nan")}}, "'belt_px_s': nan"),
        ({"options": {"control": "x" * 10**6}}, "'control': 'xxx"),
        ({"options": []}, r"task\.options of the checkpoint is \[\]"),
        ({"env": "evil_mark"}, "unknown environment 'evil_mark'"),
        ({"env": ["lift"]}, r"task\.env"),
        ({"max_steps": 10**12}, "max_steps of the checkpoint is 1000000000000"),
        ({"max_steps": True}, "max_steps"),
        ({"obs_keys": [1]}, "obs_keys"),
        ({"name": None}, r"task\.name"),
    ],
)
def test_a_checkpoint_chooses_no_module_and_no_file(change, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        registry.check_task({**TOLD, **change})
    assert len(str(caught.value)) < 600


def test_a_checkpoint_without_a_task_asks_for_one():
    for task in (None, "toy", [], 3):
        with pytest.raises(CheckpointError, match="give task=NAME"):
            registry.check_task(task)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "pusht",
            {"belt_px_s": "fast"},
            "option belt_px_s of environment 'pusht' is 'fast'; it must be a number",
        ),
        ("pusht", {"obs": ["state"]}, "option obs of .* must be one of"),
        ("pusht", {"goal": "here"}, "option goal"),
        ("pusht", {"max_steps": 2.5}, "option max_steps .* a whole number"),
        ("gymnasium", {"id": 3}, "option id .* text"),
        ("gymnasium", {"id": "Pendulum-v1", "max_steps": None}, "option max_steps"),
    ],
)
def test_options_of_another_type_are_named_and_nothing_is_built(name, options, words):
    pytest.importorskip("pymunk")
    with pytest.raises(ConfigError, match=words):
        registry.make(name, **options)


def test_options_of_the_constructors_types_are_taken():
    pytest.importorskip("pymunk")
    assert registry.make("pusht", goal=[200, 200.0, 1], belt_px_s=3, obs="state").max_steps == 300


@pytest.mark.parametrize("name", registry.names())
def test_every_option_of_our_environments_has_a_meaning(name):
    try:
        found = registry.list_options(name).values()
    except ConfigError as error:
        pytest.skip(str(error))
    assert found
    assert [option.name for option in found if not option.meaning] == []
    assert registry.defaults(name)["max_steps"] in (None, 0, 40, 120, 160, 300, 500)
