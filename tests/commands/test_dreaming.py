"""A world model from its play to its pages: `finetune method=diwa`, `world-model view`, `demo`."""

import json

import av
import pytest
from hotstart.cli import main
from hotstart.commands.dream_demo import (
    Stage,
    add_seconds,
    plan_stages,
    read_seconds,
    run_stages,
    write_page,
)
from hotstart.commands.dreaming import AuditFailed, open_play
from hotstart.configs.compose import compose_config
from hotstart.configs.world_model import DreamDemo
from hotstart.datasets.store import Store
from hotstart.finetuning.outcome import load_finetuned
from hotstart.policy import checkpoint
from hotstart.spec import ObsKey, ObsSpec
from hotstart.world_model import files

from .dream_world import save_base, save_play, save_world_model

QUICK = [
    *("method=diwa", "method.force=true", "method.clone_updates=3"),
    *("method.repeats=1", "method.rows=4", "method.chunks=6", "method.iterations=2"),
    *("inference.steps=2", "method.trained_steps=1", "episodes=2", "num_envs=2", "workers=0"),
    "controls=false",
]


@pytest.fixture(scope="module")
def dreamed(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dreamed")
    base, play = save_base(tiny_model, folder), save_play(folder)
    world = save_world_model(play, folder)
    words = [
        str(base),
        f"play={play}",
        f"world_model={world}",
        f"runs={folder}",
        "name=tuned",
        *QUICK,
    ]
    assert main(["finetune", *words]) == 0
    return folder / "tuned", words


@pytest.fixture(scope="module")
def viewed(dreamed):
    folder, words = dreamed
    out = folder.parent / "view"
    shown = [str(folder.parent / "world"), words[1], f"checkpoint={words[0]}", f"out={out}"]
    told = [*shown, "inference=ddim-2", f"audit={folder / 'audit.json'}", "episodes=2"]
    assert main(["world-model", "view", *told]) == 0
    return out, told


def test_a_run_in_dreams_tells_what_it_imagined_and_that_no_step_was_real(dreamed):
    folder, _ = dreamed
    outcome = load_finetuned(folder)
    dreams = outcome.get("dreams")
    assert dreams is not None
    assert dreams["offline"] is True
    assert dreams["forced"] is True  # an untrained policy is no audit's base
    assert dreams["audit"] == json.loads((folder / "audit.json").read_text())
    assert set(dreams["imagined"]) == {
        "base",
        "base zero start",
        "base half start",
        "cloned",
        "tuned",
    }
    assert dreams["play_steps"] == 120 * 30
    points = outcome["curve"]
    assert points[-1]["steps"] == dreams["imagined_steps"] > points[0]["steps"] > 0
    assert all("disagreement" in point for point in points)
    assert outcome["steps_to_gain"] == {"10": None, "20": None}
    ledger = checkpoint.read_meta(checkpoint.find(folder))["ledger"]
    assert (ledger["play"], ledger["training"], ledger["selection"]) == (120 * 30, 0, 0)
    assert list(outcome["controls"]) == ["cloned"]
    page = (folder / "page.html").read_text()
    assert "Forced: the world model fails its audit" in page
    assert "<h2>Dream against truth</h2>" in page


def test_the_same_command_dreams_no_more(dreamed):
    folder, words = dreamed
    written = {file: file.stat().st_mtime_ns for file in folder.glob("*.json")}
    again = [word for word in words if not word.startswith("episodes=")]
    assert main(["finetune", *again, "episodes=0"]) == 0
    assert {file: file.stat().st_mtime_ns for file in folder.glob("*.json")} == written


def test_the_page_of_a_world_model_shows_dream_beside_truth(viewed):
    out, _ = viewed
    videos = sorted(out.glob("*.mp4"))
    assert len(videos) == 2
    page = (out / "page.html").read_text()
    for text in ("<h2>The audit</h2>", "<h2>Truth and dream</h2>", "; dreamed: "):
        assert text in page
    assert page.count("<video") == 2
    with av.open(str(videos[0])) as file:
        (frame, *_) = file.decode(video=0)
        assert frame.width > 3 * 250  # recorded, imagined and dreamed


def test_a_view_takes_no_foreign_audit_and_replaces_no_page(viewed, tmp_path, capsys):
    _, told = viewed
    assert main(["world-model", "view", *told]) == 2
    assert "overwrite=true" in capsys.readouterr().err
    (tmp_path / "audit.json").write_text("{}")
    other = [word for word in told if not word.startswith(("audit", "out"))]
    other += [f"audit={tmp_path / 'audit.json'}", f"out={tmp_path / 'view'}"]
    assert main(["world-model", "view", *other]) == 2
    assert "is no audit of a world model" in capsys.readouterr().err


def test_other_methods_take_dreams_as_their_rollouts(tiny_model, tmp_path):
    base, play = save_base(tiny_model, tmp_path), save_play(tmp_path)
    world = save_world_model(play, tmp_path)
    words = [str(base), f"play={play}", f"world_model={world}", f"runs={tmp_path}", "name=v"]
    words += ["inference.steps=2", "episodes=2", "method=values", "method.rows=4"]
    words += ["method.chunks=6", "method.iterations=2", "num_envs=2", "workers=0"]
    words += ["controls=false"]
    assert main(["finetune", *words]) == 2  # an untrained policy is no audit's base
    audit = tmp_path / "v" / "audit.json"
    passed = {**json.loads(audit.read_text()), "passed": True}
    audit.write_text(json.dumps(passed))
    assert main(["finetune", *words]) == 0
    meta = checkpoint.read_meta(checkpoint.find(tmp_path / "v"))
    assert (meta["ledger"]["play"], meta["ledger"]["training"]) == (120 * 30, 0)
    records = (tmp_path / "v" / "metrics.jsonl").read_text().splitlines()
    steps = json.loads(records[-1])["imagined_steps"]
    dreams = load_finetuned(tmp_path / "v").get("dreams")
    assert dreams is not None
    assert dreams["imagined_steps"] == steps > 0


def test_the_demo_is_four_commands_that_the_command_line_takes(tmp_path):
    for task in ("gate", "push-v3"):
        stages = plan_stages(DreamDemo(task=task), tmp_path)
        assert [stage.verb for stage in stages] == ["collect", "train", "collect", "finetune"]
        for stage in stages[1::2]:
            composed = compose_config(stage.verb, stage.words)
            assert composed["runs"] == str(tmp_path)
            assert stage.command.startswith(f"hotstart {stage.verb} {tmp_path}/")


def test_a_stage_whose_model_fails_its_audit_tunes_nothing_and_time_adds_up(tmp_path):
    def refuse(config):
        raise AuditFailed("the world model fails its audit")

    words = ["task=gate"]
    stages = [Stage("collect", words, lambda config: 0), Stage("collect", words, refuse)]
    add_seconds(tmp_path, "1 collect", 60.0)
    assert run_stages(stages, tmp_path) == "the world model fails its audit"
    spent = read_seconds(tmp_path)
    assert list(spent) == ["1 collect", "2 collect"]
    assert 60 <= spent["1 collect"] < 120


def test_the_page_of_the_demo_tells_the_story_and_what_it_cost(dreamed):
    folder = dreamed[0].parent
    options = DreamDemo("x", folder, "gate", episodes=2, workers=0)
    stages = plan_stages(options, folder)
    (dreamed[0] / "world_model").symlink_to(folder / "world")
    page = write_page(options, folder, stages, "", 1).read_text()
    for text in ("1. A weak policy", "2. It plays", "4. It trains in dreams", "Before and after"):
        assert f"{text}</h2>" in page
    assert page.count("<video") == 2  # a held-out episode, and base beside tuned policy
    assert "No real step was used for the tuning" in page
    refused = write_page(options, folder, stages, "the model fails", 1).read_text()
    assert "Nothing was tuned: the model fails" in refused
    assert "4. It trains in dreams" not in refused
    assert refused.count("<video") == 1


def test_the_demo_of_a_world_model_has_options_of_its_own(capsys):
    assert main(["demo", "world-model", "--help"]) == 0
    assert "play_episodes=" in capsys.readouterr().out
    assert main(["demo", "world-model", "charged=[]"]) == 2
    assert "hotstart demo world-model: " in capsys.readouterr().err


def test_play_holds_what_the_base_observes_and_what_a_named_world_model_reads(tiny_model, tmp_path):
    base, _ = checkpoint.load(save_base(tiny_model, tmp_path))
    old = Store.open(save_play(tmp_path, episodes=80))
    keys = {**old.obs_spec.keys, "far": ObsKey((2,))}
    words = {"fps": old.fps, "action_spec": old.action_spec, "task": "gate"}
    store = Store.create(tmp_path / "wide.zarr", obs_spec=ObsSpec(keys), **words)
    for number in range(len(old.lengths)):
        episode = dict(old.episode(number))
        store.append({**episode, "far": episode["state"][:, :2]})
    named = files.load(save_world_model(tmp_path / "play.zarr", tmp_path))
    named.model.obs_spec = ObsSpec({"far": ObsKey((2,))})
    config = {"play": str(store.path)}
    assert list(open_play(config, base).observations) == ["state"]
    assert list(open_play(config, base, named).observations) == ["state", "far"]
