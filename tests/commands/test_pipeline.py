"""The verbs one after the other, on tiny sizes: collect, train, evaluate, demo."""

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from hotstart.cli import main
from hotstart.commands import demo_film, demo_rows, evaluate, side_by_side, train
from hotstart.commands.demo import OWN_TASK
from hotstart.configs import compose
from hotstart.datasets.store import Store
from hotstart.evaluation import results
from hotstart.policy import checkpoint
from PIL import Image

TINY = [
    "denoiser.channels=[8,16]",
    "denoiser.groups=4",
    "denoiser.level_width=8",
    "encoder.token_width=8",
]


@pytest.fixture(scope="module")
def pusht_run(tmp_path_factory):
    """A run trained for a few steps on random pushing."""
    pytest.importorskip("pymunk")
    from hotstart.envs.pusht import PushTEnv

    folder = tmp_path_factory.mktemp("pusht")
    env = PushTEnv()
    rng = np.random.default_rng(0)
    store = Store.create(
        folder / "data.zarr",
        fps=10,
        action_spec=env.action_spec,
        obs_spec=env.obs_spec,
        task="pusht",
    )
    for seed in range(4):
        observation, _ = env.reset(seed=seed)
        rows = {name: [] for name in (*env.obs_spec.keys, "action")}
        for _ in range(30):
            action = rng.uniform(50, 450, 2).astype(np.float32)
            for name, value in {**observation, "action": action}.items():
                rows[name].append(value)
            observation = env.step(action)[0]
        store.append({name: np.stack(values) for name, values in rows.items()})
    words = [
        str(folder / "data.zarr"),
        "task=pusht",
        f"runs={folder}",
        "name=run",
        "training.steps=6",
        "training.batch=8",
        *TINY,
    ]
    assert main(["train", *words]) == 0
    return folder / "run", words


def evaluated(run, out, *arguments):
    """The result of an evaluation; it is one of 40 ticks unless the arguments say otherwise."""
    given = {argument.partition("=")[0] for argument in arguments}
    own = []
    for argument in ("task.max_steps=40", "task=pusht", f"out={out}"):
        if argument.partition("=")[0] not in given:
            own.append(argument)
    assert main(["evaluate", str(run), *own, *arguments]) == 0
    return json.loads(out.read_text())


def expanded(word):
    """A word's files, as a shell finds them."""
    place = Path(word)
    return [str(path) for path in place.parent.glob(place.name)] if "*" in word else [word]


def check_printed(page, others=()):
    """The commands that a page shows but for `others`, as words: composed, with a checkpoint that
    is there, or run where that is quick.
    """
    shown = [text for text in page.commands if text.startswith("hotstart ")]
    commands = [shlex.split(text) for text in shown if text not in others]
    for _, verb, *words in commands:
        if "--help" in words or verb == "compare":
            files = [path for word in words for path in expanded(word)]
            assert main([verb, *files]) == 0
            continue
        config = compose.compose_config(verb, words)
        if verb == "evaluate":
            evaluate.check(config)
            assert checkpoint.find(config["checkpoint"])
    return commands


def test_run_folder_holds_what_is_needed(pusht_run):
    run, _ = pusht_run
    assert {"config.yaml", "metrics.jsonl", "tensorboard", "checkpoints"} <= {
        path.name for path in run.iterdir()
    }
    meta = checkpoint.read_meta(run / "checkpoints" / "last")
    assert meta["step"] == 6
    assert meta["regimes"] == ["staircase", "constant", "prefix"]
    assert meta["task"]["name"] == "pusht"


def test_training_again_has_nothing_left_to_do(pusht_run):
    run, words = pusht_run
    before = (run / "checkpoints" / "last" / "model.safetensors").read_bytes()
    assert main(["train", *words]) == 0
    assert (run / "checkpoints" / "last" / "model.safetensors").read_bytes() == before


def test_a_task_of_another_rate_than_the_data_is_refused_or_run_at_its_own(
    pusht_run, tmp_path, capsys
):
    """Time counts by the robot's clock: the same commands have the same jerk, whatever the data's
    rate was.
    """
    run, _ = pusht_run
    few = (
        "episodes=2",
        "num_envs=2",
        "workers=0",
        "inference.steps=2",
        "latency=150ms",
        "planner=async",
    )
    found = evaluated(run, tmp_path / "same.json", *few)
    fast = tmp_path / "fast"
    shutil.copytree(run / "checkpoints" / "last", fast)
    meta = json.loads((fast / "meta.json").read_text())
    (fast / "meta.json").write_text(json.dumps({**meta, "rate_hz": 50.0}))
    capsys.readouterr()
    assert (
        main(
            [
                "evaluate",
                str(fast),
                "task.max_steps=40",
                "task=pusht",
                f"out={tmp_path / 'no.json'}",
                *few,
            ]
        )
        == 2
    )
    assert (
        "trained on data of 50 Hz, the robot runs at 10 Hz: train on data of the robot's rate"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "no.json").exists()
    allowed = evaluated(fast, tmp_path / "any.json", *few, "rate=any")
    assert allowed["rate_hz"] == found["rate_hz"] == 10.0
    for key in ("smoothness", "per_episode", "starved_ticks", "reaction_s"):
        assert allowed[key] == found[key]
    assert (
        main(["evaluate", str(run), "task=pusht", f"out={tmp_path / 'no.json'}", "rate=slow"]) == 2
    )


def test_training_warns_of_data_of_another_rate_than_the_tasks(capsys):
    task = {"name": "pusht", "env": "pusht", "options": {}, "max_steps": 10}
    assert train.rate_warning(task, 10.05) == ""
    assert "the data run at 50 steps a second, pusht at 10:" in train.rate_warning(task, 50.0)
    assert (
        train.rate_warning({**task, "env": "gymnasium", "options": {"id": "Nowhere-v0"}}, 50.0)
        == ""
    )


def test_results_do_not_depend_on_the_number_of_workers(pusht_run, tmp_path):
    run, _ = pusht_run
    found = [
        evaluated(
            run,
            tmp_path / f"{workers}.json",
            "episodes=5",
            "num_envs=3",
            "inference.steps=2",
            f"workers={workers}",
        )
        for workers in (0, 1, 3)
    ]
    assert len(found[0]["per_episode"]) == 5
    assert [episode["seed"] for episode in found[0]["per_episode"]] == list(range(100000, 100005))
    assert (
        found[0]["sampler_settings"]["steps"] == 2
    )  # all that the way was set to, so that a result can be made again
    assert found[0]["precision"] == "fp32"
    assert len({episode["score"] for episode in found[0]["per_episode"]}) > 1
    for other in found[1:]:
        assert other["per_episode"] == found[0]["per_episode"]
        assert other["smoothness"] == found[0]["smoothness"]


SHORT = ["task=pusht", "task.max_steps=20", "inference.steps=1", "episodes=8", "num_envs=2"]


@pytest.fixture
def begun(pusht_run, tmp_path):
    """An evaluation in a process of its own that has finished its first batch and goes on."""
    out = tmp_path / "r.json"
    kept = tmp_path / "r.json.unfinished"
    words = [str(pusht_run[0]), f"out={out}", "workers=1", *SHORT]
    process = subprocess.Popen(
        [sys.executable, "-m", "hotstart", "evaluate", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not kept.exists() or '{"batch"' not in kept.read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    yield process, words, out
    process.kill()
    process.communicate()


def test_a_killed_evaluation_keeps_what_is_finished_and_goes_on(begun, pusht_run, tmp_path):
    process, words, out = begun
    process.kill()
    process.wait()
    kept = tmp_path / "r.json.unfinished"
    batches = kept.read_text().count('{"batch"')
    assert 1 <= batches < 4
    first = json.loads(kept.read_text().splitlines()[1])["episode"]
    changed = kept.read_text().replace(
        '"score": 0.', '"score": 7.'
    )  # to see that they are not run again
    kept.write_text(changed)
    assert main(["evaluate", *words]) == 0
    result = json.loads(out.read_text())
    whole = evaluated(pusht_run[0], tmp_path / "whole.json", "workers=0", *SHORT)
    assert not kept.exists()
    scores = [episode["score"] for episode in result["per_episode"]]
    expected = [episode["score"] for episode in whole["per_episode"]]
    assert [score % 1 for score in scores] == pytest.approx([score % 1 for score in expected])
    assert [score >= 7 for score in scores] == [True] * 2 * batches + [False] * (8 - 2 * batches)
    assert result["per_episode"][2 * batches :] == whole["per_episode"][2 * batches :]
    # The killed process computed with other numbers of threads, which round otherwise.
    assert result["smoothness"] == pytest.approx(whole["smoothness"], rel=1e-5)
    assert first["seed"] in (100000, 100001)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143)])
def test_a_stopped_evaluation_says_what_is_kept(number, status, begun, tmp_path):
    process, _, out = begun
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == status
    kept = tmp_path / "r.json.unfinished"
    batches = kept.read_text().count('{"batch"')
    said = (
        rf"hotstart evaluate: stopped; {kept} keeps \d of 8 episodes; "
        rf"the same command goes on after the first {2 * batches}"
    )
    assert re.search(said, error), error
    assert not out.exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_a_killed_worker_ends_the_evaluation_with_what_is_kept(begun):
    process, _, _ = begun
    for folder in Path("/proc").glob("[0-9]*"):
        if (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(process.pid):
            os.kill(int(folder.name), signal.SIGKILL)
            break
    _, error = process.communicate(timeout=30)
    assert process.returncode == 2
    assert (
        "hotstart evaluate: the worker of rows 0, 1 died with exit code -9; killed by a signal"
        in error
    )
    assert "r.json.unfinished keeps " in error
    assert "Traceback" not in error


def test_videos_and_nfe(pusht_run, tmp_path, read_page, capsys):
    run, _ = pusht_run
    words = [
        "episodes=2",
        "num_envs=2",
        "inference=dpmpp",
        "inference.steps=3",
        "workers=0",
        f"video={tmp_path / 'v'}",
        "videos=1",
    ]
    result = evaluated(run, tmp_path / "r.json", *words)
    assert result["inference"] == "dpmpp-3"
    assert result["nfe"]["cold"] == 3
    assert result["nfe"]["per_action"] == pytest.approx(3 / 8)
    (video,) = (tmp_path / "v").glob("*.mp4")
    page = read_page(tmp_path / "v" / "gallery.html")
    assert page.tags.count("video") == 1
    assert "Filmed: the first 1 of 2 evaluated episodes." in page.text
    episode = result["per_episode"][0]
    (caption,) = page.blocks["figcaption"]
    assert f"Failure score {episode['score']:.2f}, seed 100000, 40 steps" in caption
    with av.open(str(video)) as file:
        assert file.metadata["title"].startswith(
            f"dpmpp-3_{episode['seed']}_failure_{episode['score']:.2f}"
        )
        assert sum(1 for _ in file.decode(video=0)) == result["per_episode"][0]["steps"] + 1
    printed = capsys.readouterr().out
    made, more, other, compared, _ = page.commands
    assert f"next: {other}\nthen: {compared}\n" in printed
    shorter = [word for word in shlex.split(more) if not word.startswith(("episodes=", "out="))]
    few = ["episodes=1", "out=" + str(tmp_path / "more.json")]
    for line in (shlex.split(made), shlex.split(other), [*shorter, *few], shlex.split(compared)):
        assert main(line[1:]) == 0
    task = results.load(tmp_path / "more.json")["task_options"]
    assert task["max_steps"] == 40  # the same task, as it was asked for


def test_a_result_says_all_that_decided_it(pusht_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(pusht_run[0], run)
    words = [
        "episodes=1",
        "inference=rti",
        "workers=0",
        "task.options.belt_px_s=5",
        "task.options.goal=[300,200,1]",
    ]
    before = evaluated(run, tmp_path / "a.json", *words)
    assert before["env"] == "pusht"
    assert before["task_options"] == {
        "obs": "keypoints",
        "goal": [300, 200, 1],
        "max_steps": 40,
        "render_size": 256,  # what was not given, with its default
        "belt_px_s": 5,
    }
    assert (before["checkpoint_step"], before["data_rate_hz"], before["precision"]) == (
        6,
        10.0,
        "fp32",
    )
    assert before["sampler_settings"]["ramp"] is True  # left open, and taken from the checkpoint
    last = run / "checkpoints" / "last"
    checkpoint.write_meta(
        last, {**checkpoint.read_meta(last), "warm_start": {"start": 0.625, "steps": 2}}
    )
    after = evaluated(run, tmp_path / "b.json", *words)
    assert after["sampler_settings"] == before["sampler_settings"] | {"min_start": 0.625}


def test_a_result_and_videos_are_not_overwritten_unasked(pusht_run, tmp_path, capsys):
    run = str(pusht_run[0])
    out = tmp_path / "r.json"
    folder = tmp_path / "videos"
    words = ["evaluate", run, "task=pusht", "task.max_steps=2", "episodes=1", "workers=0"]
    assert main([*words, f"out={out}", f"video={folder}"]) == 0
    old = out.read_bytes()
    for again in ([f"out={out}"], ["out=''", f"video={folder}"]):
        assert main([*words, *again]) == 2
        assert "say overwrite=true" in capsys.readouterr().err
    assert out.read_bytes() == old
    assert main([*words, f"out={out}", f"video={folder}", "seed=5", "overwrite=true"]) == 0
    assert json.loads(out.read_text())["seed"] == 5


def test_the_headline_is_out_before_the_result_is_saved(pusht_run, tmp_path, capsys, monkeypatch):
    def full(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("hotstart.system.outputs.write_text", full)
    words = [
        "task=pusht",
        "task.max_steps=2",
        "episodes=1",
        "workers=0",
        f"out={tmp_path / 'r.json'}",
    ]
    assert main(["evaluate", str(pusht_run[0]), *words]) == 2
    told = capsys.readouterr()
    assert "score 0." in told.out
    assert "No space left on device: make room" in told.err


def test_a_run_that_names_no_task_asks_for_one(pusht_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(pusht_run[0], run)
    last = run / "checkpoints" / "last"
    checkpoint.write_meta(
        last, {key: value for key, value in checkpoint.read_meta(last).items() if key != "task"}
    )
    assert main(["evaluate", str(run), "episodes=1", "workers=0", "out=''"]) == 2
    told = capsys.readouterr().err
    assert "does not say which task" in told
    assert "task=pusht" in told
    assert evaluated(run, tmp_path / "r.json", "episodes=1", "workers=0")["task"] == "pusht"


def test_executing_more_than_was_planned_is_refused(pusht_run, capsys):
    run, _ = pusht_run
    assert main(["evaluate", str(run), "executed=24", "episodes=1", "workers=0", "out=''"]) == 2
    assert "horizon.planned" in capsys.readouterr().err


@pytest.mark.parametrize(
    "word", ["episodes=0", "num_envs=0", "latency=0.1", "planner=both", "latency=profile"]
)
def test_impossible_values_are_refused(pusht_run, word, capsys):
    assert main(["evaluate", str(pusht_run[0]), "out=''", word]) == 2
    assert word.partition("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize("sampler", ["rti", "sdp", "rtc"])
@pytest.mark.parametrize("planner", ["sync", "async"])
def test_every_way_runs_against_the_clock(pusht_run, sampler, planner, tmp_path):
    run, out = pusht_run[0], tmp_path / "result.json"
    words = [
        f"inference={sampler}",
        "inference.steps=1",
        "latency=130ms",
        f"planner={planner}",
        "episodes=2",
        "num_envs=2",
    ]
    evaluated(run, out, *words, "workers=0")
    result = json.loads(out.read_text())
    assert result["latency_s"] == pytest.approx(0.13)
    assert result["planner"] == planner
    assert result["starved_ticks"] > 0
    assert (result["late_actions"] > 0) == (planner == "async")
    assert 0.13 < result["reaction_s"] < 1.2


def test_measured_times_are_drawn_the_same_again(pusht_run, tmp_path):
    run, profile = pusht_run[0], tmp_path / "latency.json"
    assert (
        main(
            [
                "bench",
                "call_time",
                str(run),
                "samplers=ddim:1",
                "rows=1",
                "calls=3",
                f"out={profile}",
            ]
        )
        == 0
    )
    again = ["bench", "call_time", str(run), f"out={profile}"]
    assert main(again) == 2  # the measured times are not overwritten unasked
    words = [
        "inference=ddim",
        "inference.steps=1",
        "latency=profile",
        f"profile={profile}",
        "episodes=2",
        "num_envs=2",
    ]
    found = []
    for name in ("one", "two"):
        evaluated(run, tmp_path / f"{name}.json", *words, "workers=0")
        result = json.loads((tmp_path / f"{name}.json").read_text())
        found.append((result["per_episode"], result["starved_ticks"], result["latency_s"]))
    assert found[0] == found[1]
    with pytest.raises(AssertionError):
        evaluated(
            run, tmp_path / "x.json", *words, "workers=0", "inference.steps=2"
        )  # nobody measured that


def test_collection_goes_on_after_a_kill(tmp_path):
    out = tmp_path / "lift.zarr"
    assert main(["collect", f"out={out}", "episodes=1", "seed=7", "workers=0"]) == 0
    first = Store.open(out).episode(0)
    assert main(["collect", f"out={out}", "episodes=2", "seed=7", "workers=0"]) == 0
    store = Store.open(out)
    assert json.loads((out / "seeds.json").read_text()) == [7, 8]
    assert len(store.episode_ends) == 2
    for name, values in first.items():
        np.testing.assert_array_equal(store.episode(0)[name], values)
    assert main(["collect", f"out={out}", "episodes=3", "noise=0.2"]) == 2


def test_demo_from_nothing_to_a_report(tmp_path, capsys, monkeypatch, read_page):
    monkeypatch.setenv("MUJOCO_GL", "off")
    words = [
        "demonstrations=1",
        "task.max_steps=60",
        "episodes=1",
        "charged_episodes=1",
        "workers=0",
        "inferences=[ddim-1]",
        "charged=[rti-1:sync]",
        "training.steps=2",
        "training.batch=8",
        "training.validation_share=0",
        f"runs={tmp_path}",
    ]
    assert main(["demo", *words, *TINY]) == 0
    folder = tmp_path / "demo"
    page = read_page(folder / "report.html")
    assert "report.html is ready" in capsys.readouterr().out
    assert "RTI-1 (waits)" in page.text
    assert "There will be no video: no OpenGL library" in page.text
    result = results.load(folder / "result_rti-1_sync.json")
    assert result["latency_s"] == pytest.approx(0.05)
    advised = check_printed(page, list(OWN_TASK.values()))
    assert [command[1:3] for command in advised[-1:]] == [["demo", "demo_transformer"]]
    assert "demonstrations=1" in advised[-1]  # the words of this demo
    assert page.commands[-len(OWN_TASK) :] == list(OWN_TASK.values())
    for command in OWN_TASK.values():
        _, verb, *rest = shlex.split(command)
        if verb in ("collect", "train") and "--help" not in rest:
            assert compose.compose_config(verb, rest)["task"]["name"] == "stack"


def test_rows_of_the_demo_are_kept_and_filmed(pusht_run, tmp_path, capsys):
    run = tmp_path / "demo"
    shutil.copytree(pusht_run[0], run)
    words = ["task=pusht", "task.max_steps=10", "episodes=2", "charged_episodes=1", "workers=0"]
    rows = ["inferences=[rti-2]", "charged=[ddim-4:sync,rti-2:sync]", "evaluation_ms=50"]
    config = compose.compose_config("demo", [*words, *rows])
    found = demo_rows.evaluate_rows(config, run)
    charged = {row.file_name: result["latency_s"] for row, result in found.items()}
    assert charged == {
        "result_rti-2.json": 0,
        "result_ddim-4_sync.json": pytest.approx(0.2),
        "result_rti-2_sync.json": pytest.approx(0.1),
    }
    charges = json.loads((run / "latency.json").read_text())["seconds"]
    assert charges["rti-2"]["cold"] == [pytest.approx(0.5)]  # the first plan is sampled whole
    capsys.readouterr()
    assert demo_rows.evaluate_rows(config, run) == found
    assert capsys.readouterr().out.count("done before") == 3
    demo_rows.evaluate_rows({**config, "evaluation_ms": 40.0}, run)
    assert capsys.readouterr().out.count("done before") == 1  # the one without charged time
    film = demo_film.film_pair(demo_film.choose_pair(list(found)), found, config, run)
    assert "the first one; on all 1 both end alike" in film.caption
    with av.open(str(film.video)) as file:
        pictures = list(file.decode(video=0))
    assert len(pictures) == 11 + round(side_by_side.HOLD_S * 10)
    assert pictures[0].width == 2 * demo_film.PANEL_PX + side_by_side.GAP
    with Image.open(film.gif) as gif:
        assert gif.width == demo_film.GIF_PX


@pytest.mark.parametrize(
    "word", ["inferences=[ddim]", "charged=[rti-2]", "charged=[rti:sync]", "charged_episodes=200"]
)
def test_rows_that_cannot_be_are_refused(word, capsys):
    assert main(["demo", word]) == 2
    assert word.partition("=")[2].strip("[]").rpartition(":")[0] in capsys.readouterr().err


def test_benchmarks_print_their_tables(pusht_run, capsys):
    run, words = pusht_run
    assert (
        main(
            [
                "bench",
                "call_time",
                str(run),
                "samplers=ddim:2,dpmpp:3",
                "rows=1,2",
                "calls=2",
                "threads=1",
            ]
        )
        == 0
    )
    table = capsys.readouterr().out
    assert [line.split()[:3] for line in table.splitlines()[2:]] == [
        [sampler, rows, nfe]
        for rows in "12"
        for sampler, nfe in (("ddim:2", "2"), ("dpmpp:3", "3"))
    ]
    settings = "encoder.token_width=8+denoiser=transformer+denoiser.embed=16"
    assert (
        main(
            [
                "bench",
                "first_steps",
                words[0],
                f"settings={settings}",
                "steps=4",
                "every=2",
                "batch=4",
            ]
        )
        == 0
    )
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["2", "4"]
    assert all(float(number) > 0 for number in line.split()[:2])
