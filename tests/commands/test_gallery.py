"""The page of an evaluation: failures first, commands that a shell reads back, text escaped."""

import shlex
from typing import Any

import numpy as np
import pytest
from hotstart.commands import gallery
from hotstart.configs import compose
from hotstart.control import RowLog
from hotstart.evaluation import results
from hotstart.spec import ActionSpec

EPISODES = [(5, True, 1.0), (6, False, 0.9), (7, True, 0.95), (8, False, 0.2)]


def make_result(checkpoint, sampler="ddim-10"):
    """A result of four episodes: two failures, of which the later one has the lower score."""
    line, ticks = [np.array([t / 24]) for t in range(24)], [1.0] * 24
    logs = [
        RowLog(seed, success, score, 24, line, ticks, [10, 10]) for seed, success, score in EPISODES
    ]
    setting = results.Setting("lift", checkpoint, sampler, rate_hz=20.0, executed=8)
    return results.summarise(logs, [(4, 0.01)] * 3, setting, ActionSpec.plain(1), np.ones(1))


@pytest.fixture
def write(tmp_path, read_page):
    """Writes the page of an evaluation that was called with these words, and reads it."""

    def write_and_read(result, *words):
        folder = tmp_path / "my videos"
        folder.mkdir()
        videos = []
        for seed, success, score in EPISODES:
            name = f"{result['inference']}_{seed}_{gallery.OUTCOMES[success]}_{score:.2f}.mp4"
            videos.append(folder / name)
            videos[-1].write_bytes(b"0")
        words = (
            *words,
            f"video={folder}",
            f"out={tmp_path / 'it is here.json'}",
            "latency=profile",
        )
        config = compose.compose_config("evaluate", words)
        return read_page(gallery.write_gallery(config, result, videos)), config

    return write_and_read


def test_failures_stand_first_the_lowest_score_before_the_others(write):
    page, _ = write(make_result("runs/a"), "runs/a")
    assert [caption.split(", ")[:2] for caption in page.blocks["figcaption"]] == [
        ["\u2715 Failure score 0.20", "seed 8"],
        ["\u2715 Failure score 0.90", "seed 6"],
        ["\u2713 Success score 0.95", "seed 7"],
        ["\u2713 Success score 1.00", "seed 5"],
    ]


def test_the_head_says_what_was_evaluated_and_how_sure_the_figures_are(write):
    result = make_result("runs/a") | {"checkpoint_step": 300}
    page, _ = write(result, "runs/a", "task=lift", "task.max_steps=90")
    assert page.blocks["h1"] == ["lift: 4 episodes by ddim-10"]
    assert page.facts["task"] == "lift task.max_steps=90"
    assert page.facts["checkpoint"] == "runs/a, step 300"
    assert page.facts["success"] == "0.500 [0.150, 0.850] of 4 episodes"
    score: Any = result["score"]
    assert page.facts["score"] == f"0.762 [{score['low']:.3f}, {score['high']:.3f}]"
    assert page.facts["jerk of the commands"].endswith("e-13 normalised units / s\u00b3 (RMS)")


def test_its_commands_are_read_back_as_they_were_given(write):
    words = ["runs/my run", "task=lift", "task.options.robot=[a, b]", "overwrite=true"]
    page, config = write(make_result("runs/my run"), *words)
    made = shlex.split(page.commands[0])
    assert made[:2] == ["hotstart", "evaluate"]
    again = compose.compose_config("evaluate", made[2:])
    for key in ("checkpoint", "task", "video", "out", "overwrite"):
        assert again[key] == config[key]
    more = compose.compose_config("evaluate", shlex.split(page.commands[1])[2:])
    assert more["task"] == config["task"]
    assert (more["episodes"], more["video"]) == (500, "")
    assert more["out"].endswith("/it is here_2.json")


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)<script>", 'a" onload="x', "${css}$$ &amp; <b>"]
)
def test_text_of_results_and_names_is_escaped(hostile, write):
    result = make_result(hostile, hostile.replace("/", "")) | {
        "task": hostile,
        "versions": {hostile: hostile},
        "machine": {"cpu": hostile, "cores": 2, "device": hostile},
    }
    for episode in result["per_episode"]:
        episode["task"] = hostile
    page, _ = write(result, f"checkpoint='runs/{hostile.replace('$', '')}'")
    assert not {"script", "b"} & set(page.tags)
    assert "onload" not in [name for name, _ in page.attributes]
    assert page.text.count(" ".join(hostile.split())) >= 10
    assert page.facts["checkpoint"] == hostile


SPENT = "demonstrations 1,200, play 0, training 64, selection 0, evaluation 0"


@pytest.mark.parametrize(("training", "told"), [(64, SPENT), (0, None)])
def test_the_page_of_a_tuned_policy_says_what_it_has_spent(write, training, told):
    result = make_result("runs/a") | {"ledger": {"demonstrations": 1200, "training": training}}
    page, _ = write(result, "runs/a")
    assert page.facts.get("real control periods spent") == told
