import json

import av
import pytest
from hotstart.cli import main
from hotstart.commands.after_finetuning import choose_noise, choose_search, plan_contest
from hotstart.commands.finetuned import list_next
from hotstart.configs.compose import compose_config
from hotstart.finetuning.ledger import PURPOSES
from hotstart.finetuning.outcome import load_finetuned
from hotstart.policy import checkpoint
from hotstart.policy.denoisers.split import SplitNetwork
from hotstart.policy.diffusion_policy import build_sampler
from hotstart.policy.samplers.best_of import BestOf
from hotstart.policy.samplers.fresh import Fresh
from hotstart.spec import DataError

from .test_pipeline import pusht_run  # noqa: F401  the same tiny run

WORDS = [
    *("task.max_steps=24", "inference.steps=2", "method.rows=2", "method.chunks=2"),
    *("method.iterations=2", "method.trained_steps=1", "method.reward=score", "workers=0"),
    *("episodes=2", "num_envs=2", "others=[ddim-2,rti-2]"),
    "other_tasks=['pusht_belt task.max_steps=24']",
]


@pytest.fixture(scope="module")
def tuned(pusht_run, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("tuned")
    words = [str(pusht_run[0]), "task=pusht", f"runs={folder}", "name=t", *WORDS]
    assert main(["finetune", *words]) == 0
    return folder / "t", words


def test_base_and_tuned_policy_are_compared_on_the_same_seeds(tuned):
    folder, _ = tuned
    base = json.loads((folder / "base.json").read_text())
    after = json.loads((folder / "tuned.json").read_text())
    assert [each["seed"] for each in base["per_episode"]] == [100000, 100001]
    assert [each["seed"] for each in after["per_episode"]] == [100000, 100001]
    assert base["sampler_settings"] == after["sampler_settings"]
    assert base["weights_hash"] != after["weights_hash"]
    assert base["ledger"]["evaluation"] == sum(each["steps"] for each in base["per_episode"])
    assert base["ledger"]["demonstrations"] == after["ledger"]["demonstrations"] == 4 * 30
    assert base["ledger"]["training"] == 0
    # two iterations of two chunks of eight ticks in two rows
    assert after["ledger"]["training"] == 2 * 2 * 8 * 2
    assert (folder / "success.png").read_bytes()[:4] == b"\x89PNG"


def test_the_outcome_says_what_was_gained_what_was_forgotten_and_what_it_cost(tuned):
    folder, words = tuned
    outcome = load_finetuned(folder)
    assert outcome["method"] == "dppo"
    assert outcome["settings"]["chunks"] == 2
    assert outcome["base"]["checkpoint"] == words[0]
    assert list(outcome["gains"]) == ["base", *outcome["controls"]]
    assert list(outcome["controls"]) == ["base zero start", "base half start"]
    # ddim-2 is what was tuned for
    belt = "pusht_belt task.max_steps=24"
    assert list(outcome["others"]) == ["rti-2", belt]
    names = [kept["tuned"]["inference"] for kept in outcome["others"].values()]
    assert names == ["rti-2", "ddim-2"]
    assert outcome["others"][belt]["base"]["task"] == "pusht_belt"
    gain = outcome["others"]["rti-2"]["gain"]
    assert gain is not None
    assert gain["seeds"] == 2
    spent = 0
    for file in folder.glob("*.json"):
        for episode in json.loads(file.read_text()).get("per_episode", []):
            spent += episode["steps"]
    ledger = outcome["ledger"]
    assert ledger["evaluation"] == spent
    assert (ledger["demonstrations"], ledger["training"]) == (120, 64)
    assert [point["steps"] for point in outcome["curve"]] == [32, 64]
    assert outcome["steps_to_gain"] == {"10": None, "20": None}
    assert outcome["seconds"] > 0
    assert set(outcome["curve"][0]) == {"steps", "success", "episodes", "mean"}
    with pytest.raises(DataError, match="is not what `hotstart finetune` writes"):
        load_finetuned(folder / "base.json")


def test_the_page_tells_the_outcome(tuned):
    page = (tuned[0] / "page.html").read_text()
    for heading in ("Before, after, and controls", "What was forgotten", "Real control periods"):
        assert f"<h2>{heading}</h2>" in page
    assert "on 2 fresh seeds" in page
    assert "Against the base zero start" in page


def test_the_base_with_less_starting_noise_stands_beside_every_gain(tuned):
    folder, _ = tuned
    for name, noise in (("base_zero_start", 0.0), ("base_half_start", 0.5)):
        control = json.loads((folder / f"{name}.json").read_text())
        assert control["sampler_settings"]["start_noise"] == noise
        assert [each["seed"] for each in control["per_episode"]] == [100000, 100001]
    text = (folder / "comparison" / "comparison.txt").read_text()
    page = (folder / "comparison" / "comparison.html").read_text()
    for base in ("base", "base zero start", "base half start"):
        assert f"Difference from {base}, same seeds" in text
        assert f"<h2>Difference from {base}</h2>" in page
    after = text.split("Difference from base half start")[1]
    assert after.split("\n")[4].split()[0] == "tuned"
    spent = text.split("Real control periods that each policy has spent")[1].split("\n")
    assert spent[2].split() == ["name", *PURPOSES]
    assert spent[4].split()[:4] == ["base", "120", "0", "0"]
    assert spent[7].split()[:4] == ["tuned", "120", "0", "64"]
    assert "<h2>Real control periods</h2>" in page


@pytest.mark.parametrize(
    ("inference", "noise"),
    [
        ({"start_noise": 1.0}, [0.0, 0.5]),
        ({"start_noise": 0.5, "renoise": True}, [0.0, 0.25]),
        ({"start_noise": 0.0}, []),
        ({"start_noise": 1.0, "renoise": False}, []),
        ({}, []),
    ],
)
def test_controls_have_less_noise_than_the_sampler_that_was_tuned_for(inference, noise):
    assert list(choose_noise(inference).values()) == noise


@pytest.mark.parametrize(
    ("name", "steps", "words", "chosen"),
    [
        ("ddim", 10, ["task=gate"], ["inference.steps=10"]),
        ("ddim", 3, ["inference=ddim", "inference.steps=3"], ["inference.steps=3"]),
        ("ddpm", 100, ["inference=ddpm"], ["inference.steps=100", "solver@inference.solver=ddpm"]),
        ("ddpm", 9, ["solver@inference.solver=plms"], ["inference.steps=9"]),
    ],
)
def test_a_search_draws_plans_as_the_sampler_did(name, steps, words, chosen):
    config = {"choices": {"inference": name}, "inference": {"steps": steps}, "method": {}}
    assert choose_search(words, config) == words
    config["method"] = {"search": "best_of"}
    kept = [word for word in words if not word.startswith("inference")]
    assert choose_search(words, config) == [*kept, "inference=best_of", *chosen]


def test_the_values_of_a_policy_are_compared_by_a_search(tmp_path):
    words = ["base", "task=gate", "method=values", "controls=false", "inference.start_noise=0.5"]
    config = compose_config("finetune", words)
    own = plan_contest(config, tmp_path).own
    base, tuned = (build_sampler(each.config["inference"]) for each in own)
    assert isinstance(base, Fresh)
    assert isinstance(tuned, BestOf)
    assert base.start_noise == tuned.start_noise == 0.5
    assert "inference=best_of" in list_next(config, tmp_path)["Watch the tuned policy:"]


def test_the_tuned_policy_is_a_checkpoint_like_any_other(tuned, tmp_path, capsys):
    folder, words = tuned
    model, meta = checkpoint.load(folder)
    assert isinstance(model.network, SplitNetwork)
    assert meta["finetuned_iterations"] == 2
    assert meta["tuned_from"] == words[0]
    given = ["task=pusht", "task.max_steps=8", "inference=rti", "episodes=1", "workers=0"]
    assert main(["evaluate", str(folder), *given, f"out={tmp_path / 'r.json'}"]) == 0
    # The same command is done at once, and another setting is refused.
    capsys.readouterr()
    assert main(["finetune", *words, "episodes=0"]) == 2
    assert "'episodes' is given twice" in capsys.readouterr().err
    rest = [word for word in words if not word.startswith("episodes")]
    assert main(["finetune", *rest, "episodes=0", "method.rate=0.5"]) == 2
    assert "tuned with another rate" in capsys.readouterr().err
    small = [word for word in rest if not word.startswith(("other", "name"))]
    # What was evaluated before is kept.
    assert main(["finetune", *small, "controls=false", "episodes=2", "name=t"]) == 0
    said = capsys.readouterr().out
    assert f"{folder / 'base.json'}: evaluated before" in said
    assert f"{folder / 'tuned.json'}: evaluated before" in said
    # What the base cannot be evaluated on is refused before anything is tuned.
    for wrong, said in (("others=[no]", "no"), ("other_tasks=[pusht_state]", "do not fit")):
        assert main(["finetune", *small, wrong, "episodes=1", "name=new"]) == 2
        assert said in capsys.readouterr().err
    assert not (folder.parent / "new").exists()


def test_a_person_chooses_between_two_videos_of_each_pair(pusht_run, tmp_path, capsys):  # noqa: F811
    words = [str(pusht_run[0]), "task=pusht", f"runs={tmp_path}", "name=t", "method=d3po"]
    words += ["task.max_steps=8", "inference.steps=2", "method.rows=4", "method.chunks=1"]
    words += ["method.iterations=1", "method.trained_steps=1", "method.by=file", "workers=0"]
    assert main(["finetune", *words, "episodes=0"]) == 2
    told = capsys.readouterr()
    folder = tmp_path / "t" / "choices" / "000"
    assert f"page: {folder / 'choose.html'}" in told.out
    assert "choices.json: choose between the 2 pairs" in told.err
    page = (folder / "choose.html").read_text()
    for name in ("000_left.mp4", "000_right.mp4", "001_left.mp4", "001_right.mp4"):
        assert f'src="{name}"' in page
        with av.open(str(folder / name)) as video:
            assert sum(1 for _ in video.decode(video=0)) == 9  # the start, and 8 ticks
    (folder / "choices.json").write_text('{"0": "left"}')
    assert main(["finetune", *words, "episodes=0"]) == 0
    (line,) = (tmp_path / "t" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["differ"] == 0.5
