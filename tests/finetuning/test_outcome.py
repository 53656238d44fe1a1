"""What came of a fine-tuning: which way a difference points, and how it is told."""

import pytest
from hotstart.commands.finetuned_page import write_finetuned_page
from hotstart.commands.finetuned_words import describe_outcome
from hotstart.evaluation.intervals import wilson
from hotstart.finetuning.ledger import Ledger
from hotstart.finetuning.outcome import (
    Finetuned,
    Kept,
    describe_gain,
    describe_result,
    load_finetuned,
    save_finetuned,
)
from hotstart.spec import DataError


def make_result(wins, first_seed=0):
    share = wilson(sum(wins), len(wins))
    episodes = [
        {"seed": first_seed + number, "success": bool(win), "score": float(win), "steps": 10}
        for number, win in enumerate(wins)
    ]
    return {
        "checkpoint": "runs/a",
        "inference": "ddim-4",
        "task": "push",
        "seed": first_seed,
        "episodes": len(wins),
        "success": {"rate": share.rate, "low": share.low, "high": share.high},
        "score": {"mean": share.rate, "low": share.low, "high": share.high},
        "per_episode": episodes,
        "versions": {},
    }


BASE = make_result([1] * 20 + [0] * 30)
CONTROL = make_result([1] * 45 + [0] * 5)
TUNED = make_result([1] * 44 + [0] * 6)


@pytest.fixture
def outcome() -> Finetuned:
    base = describe_result({**BASE, "tasks": {"a": BASE["success"], "b": BASE["success"]}}, "b")
    tuned = describe_result({**TUNED, "tasks": {"a": TUNED["success"], "b": TUNED["success"]}}, "t")
    gains = {}
    for name, result in (("base", BASE), ("base zero start", CONTROL)):
        gains[name] = describe_gain(TUNED, result)
    forgotten = describe_gain(BASE, TUNED)
    return Finetuned(
        format=1,
        method="dppo",
        settings={"rate": 1e-4},
        task="push",
        inference="ddim-4",
        base=base,
        controls={"base zero start": describe_result(CONTROL, "c.json")},
        tuned=tuned,
        gains=gains,
        others={"rti-2": Kept(base=tuned, tuned=base, gain=forgotten)},
        ledger=Ledger(training=1_234_000, evaluation=500).to_json(),
        seconds=120.0,
        evaluation_seconds=60.0,
        curve=[],
        steps_to_gain={"10": 50_000, "20": None},
        date="",
    )


def test_a_gain_is_the_tuned_policy_less_the_other():
    gain = describe_gain(TUNED, BASE)
    assert gain is not None
    success = gain["success"]
    assert success is not None
    assert success["mean"] == pytest.approx(0.48)
    assert (success["only_tuned"], success["only_other"]) == (24, 0)
    assert success["p"] < 0.001
    assert describe_gain(TUNED, make_result([1], first_seed=999)) is None


def test_the_outcome_is_told_with_intervals_controls_and_costs(outcome):
    lines = describe_outcome(outcome).split("\n")
    assert lines[0].startswith("Success rose from 0.400 [0.276, 0.538] to 0.880 [")
    assert lines[0].endswith("p < 0.001.")
    assert "no difference shown" in lines[1]  # the control is as good
    assert lines[2].startswith("rti-2: 0.880")
    assert lines[3:5] == [
        "Real steps to +10 points: 50,000.",
        "Real steps to +20 points: not reached.",
    ]
    assert "demonstrations not recorded" in lines[5]
    assert "training 1,234,000" in lines[5]


def test_the_page_shows_gain_controls_forgetting_and_tasks(outcome, tmp_path):
    write_finetuned_page(tmp_path / "page.html", outcome, [TUNED], {"Next:": "hotstart evaluate"})
    page = (tmp_path / "page.html").read_text()
    assert "+48<small>points</small>" in page
    gained = page.split("<h2>Before, after, and controls</h2>")[1]
    assert gained.index("higher") < gained.index("base zero start")
    assert gained.index("no difference shown") > gained.index("base zero start")
    assert "lower" in page.split("<h2>What was forgotten</h2>")[1]
    assert "<h2>Task by task</h2>" in page


AUDIT = {
    "passed": False,
    "faults": ["the hand is off by 2 after 4 steps"],
    "begin": "cloned",
    "held_out": {"episodes": 40, "steps": 1000},
    "open_loop": [{"part": "hand", "steps": 4, "error": 2.0, "persistence": 1.0}],
    "success_model": {
        "precision": 0.5,
        "recall": 0.9,
        "episodes_right": 0.9,
        "replays_right": 0.8,
    },
    "base": {
        "starts": 40,
        "true": 0.4,
        "true_low": 0.3,
        "true_high": 0.5,
        "imagined": 0.45,
        "bias": 0.05,
        "agreement": 0.8,
        "variants": {"base": 0.45, "cloned": 0.7},
    },
}


@pytest.fixture
def dreamed(outcome) -> Finetuned:
    clone = make_result([1] * 30 + [0] * 20)
    gain = describe_gain(TUNED, clone)
    assert gain is not None
    outcome["controls"] = {"cloned": describe_result(clone, "cloned.json")}
    outcome["gains"]["cloned"] = gain
    outcome["dreams"] = {
        "offline": True,
        "forced": True,
        "audit": AUDIT,
        "begin": "cloned",
        "imagined": {"base": 0.45, "cloned": 0.7, "tuned": 0.98},
        "imagined_steps": 600_000,
        "play_steps": 34_000,
    }
    outcome["curve"] = [
        {"steps": 100, "success": 0.5, "episodes": 9, "mean": None, "disagreement": 0.1}
    ]
    return outcome


def test_a_run_in_dreams_says_what_it_was_made_of_and_what_came_true(dreamed):
    lines = describe_outcome(dreamed).split("\n")
    assert lines[0].startswith("Forced: the world model fails its audit")
    assert lines[0].endswith("the hand is off by 2 after 4 steps.")
    assert lines[2].startswith("Against filtered behaviour cloning of the play's successes (cloned")
    assert lines[3].startswith("Real steps of training and selection: 0. Imagined: 600,000")
    assert "in truth from 0.600 to 0.880" in lines[5]
    assert "Bias of the dreams: +0.100 before the tuning, +0.100 after it" in lines[6]
    assert lines[6].endswith("They promise more than comes true: the tuning exploits the model.")
    dreamed["dreams"]["imagined"]["tuned"] = 0.9
    assert "within the interval" in describe_outcome(dreamed)
    dreamed["dreams"]["imagined"]["tuned"] = 0.5
    assert "They promise less than comes true" in describe_outcome(dreamed)
    assert "Real steps to +10 points" not in "\n".join(lines)


def test_the_page_of_a_run_in_dreams_has_the_audit_and_says_that_it_was_forced(dreamed, tmp_path):
    write_finetuned_page(tmp_path / "page.html", dreamed, [TUNED], {})
    page = (tmp_path / "page.html").read_text()
    assert page.index("Forced: the world model") < page.index("Success rose from")
    for heading in ("<h2>Dream against truth</h2>", "<h2>The audit</h2>", "Open-loop error"):
        assert heading in page
    assert "Disagreement over the tuning" in page
    assert "in a world model of 34,000 recorded steps of play" in page
    dreamed["dreams"]["audit"] = {**AUDIT, "passed": True, "faults": []}
    dreamed["dreams"]["forced"] = False
    write_finetuned_page(tmp_path / "page.html", dreamed, [TUNED], {})
    assert "Forced" not in (tmp_path / "page.html").read_text()


def test_an_outcome_is_read_as_it_was_written_and_an_incomplete_one_is_refused(outcome, tmp_path):
    assert load_finetuned(save_finetuned(outcome, tmp_path)) == outcome
    with pytest.raises(DataError, match="there is no"):
        load_finetuned(tmp_path / "other.json")
    (tmp_path / "part.json").write_text('{"format": 1, "method": "dppo"}')
    with pytest.raises(DataError, match="lacks base, controls"):
        load_finetuned(tmp_path / "part.json")
