"""Words of a task: as bytes and back, as a token, and several tasks in one policy."""

from typing import Any

import numpy as np
import pytest
import torch
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.windows import Windows
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.encoders.language import InstructionEncoder, WordEmbedding
from hotstart.policy.encoders.state import StateEncoder
from hotstart.policy.samplers.classifier_free import ClassifierFreeGuidance
from hotstart.policy.training.batches import balance_windows
from hotstart.policy.training.settings import TrainingSettings
from hotstart.policy.training.trainer import Trainer
from hotstart.spec import TEXT_KEY, ConfigError, ObsKey, ObsSpec, bytes_to_text, text_to_bytes

WORDS = ["go to the left", "go to the right"]
SPEC = ObsSpec({"state": ObsKey((2,)), "instruction": TEXT_KEY})
INSTRUCTED = {"_target_": "hotstart.policy.encoders.language.InstructionEncoder"}


def two_tasks(seed: int = 0) -> Arrays:
    """The same states; the words alone say whether the action is -1 or +1. The second task has
    a third of the episodes.
    """
    rng, episodes = np.random.default_rng(seed), []
    for number in range(24):
        task = 1 if number % 4 == 0 else 0
        state = rng.uniform(-1, 1, (1, 2)).astype(np.float32).repeat(14, 0)
        action = np.full((14, 2), 2 * task - 1, np.float32) + 0.05 * state
        words = text_to_bytes(WORDS[task])[None].repeat(14, 0)
        episodes.append({"state": state, "instruction": words, "action": action})
    return Arrays(episodes, fps=10.0, obs_spec=SPEC)


@pytest.mark.parametrize("text", ["", "push the puck", "grüße die Tür", "x" * 96])
def test_words_come_back_from_their_bytes(text):
    assert bytes_to_text(text_to_bytes(text)) == text


def test_words_that_are_too_long_are_refused():
    with pytest.raises(ConfigError, match="97 bytes long; at most 96"):
        text_to_bytes("x" * 97)


def test_a_sentence_is_its_words_in_any_case():
    torch.manual_seed(0)
    embed = WordEmbedding(8).eval()
    with torch.no_grad():
        found = embed(["Open the door", "open THE door", "close the door", ""])
    assert found.shape == (4, 8)
    assert torch.equal(found[0], found[1])
    assert float((found[0] - found[2]).abs().max()) > 1e-3
    assert bool(torch.isfinite(found).all())


def test_the_words_are_one_token_more_and_rows_keep_theirs():
    torch.manual_seed(0)
    encoder = InstructionEncoder(SPEC, observed=2)
    assert (encoder.tokens, encoder.token_width) == (3, encoder.base.token_width)
    texts = [WORDS[0], WORDS[1], WORDS[0]]
    words = torch.as_tensor(np.stack([text_to_bytes(text) for text in texts]))[:, None].expand(
        -1, 2, -1
    )
    state = torch.randn(3, 2, 2)
    tokens = encoder({"state": state, "instruction": words})
    assert tokens.shape == (3, 3, encoder.token_width)
    assert torch.equal(tokens[0, 2], tokens[2, 2])
    assert not torch.equal(tokens[0, 2], tokens[1, 2])
    torch.testing.assert_close(tokens[:, :2], encoder.base({"state": state}))


def test_an_instruction_is_dropped_as_a_whole_in_training_only():
    torch.manual_seed(0)
    encoder = InstructionEncoder(SPEC, observed=2, condition_dropout=0.3)
    words = torch.as_tensor(text_to_bytes(WORDS[0])).expand(2000, 2, -1)
    seen = {"state": torch.zeros(2000, 2, 2), "instruction": words}
    with torch.no_grad():
        encoder.unconditional_token.fill_(9.0)
        token = encoder.train()(seen)[:, 2]
        dropped = (token == 9.0).all(1)
        assert 0.25 < float(dropped.float().mean()) < 0.35
        assert len(token[~dropped].unique(dim=0)) == 1  # never a part of it
        assert not (encoder.eval()(seen)[:, 2] == 9.0).all(1).any()
        assert (encoder(seen, conditional=False)[:, 2] == 9.0).all()


def test_guidance_runs_on_a_checkpoint_that_was_trained_for_it(tiny_model):
    model = tiny_model(dataset=two_tasks(), encoder={**INSTRUCTED, "condition_dropout": 0.1})
    plans = {}
    for weight in (1.0, 3.0):
        policy = DiffusionPolicy(model, ClassifierFreeGuidance(4, weight, agree=None))
        state = policy.observe(
            policy.initial_state([0]),
            {"state": np.zeros((1, 2), np.float32), "instruction": text_to_bytes(WORDS[0])[None]},
        )
        planned = policy.plan(state, np.array([0]), np.array([0]))
        plans[weight] = planned.actions
        assert planned.nfe.tolist() == [4 if weight == 1 else 8]
    assert np.abs(plans[1.0] - plans[3.0]).max() > 1e-4


def test_a_frozen_encoder_puts_like_meanings_together():
    pytest.importorskip("all_minilm_l6_v2", reason="pip install 'hotstart[language]'")
    pytest.importorskip("sentence_transformers", reason="pip install 'hotstart[language]'")
    encoder = InstructionEncoder(SPEC, observed=2, text_encoder="sentences")
    texts = ["open the door", "pull the door open", "push the puck to the goal"]
    words = torch.as_tensor(np.stack([text_to_bytes(text) for text in texts]))[:, None].expand(
        -1, 2, -1
    )
    with torch.no_grad():
        assert encoder({"state": torch.zeros(3, 2, 2), "instruction": words}).shape == (
            3,
            3,
            encoder.token_width,
        )
    known: Any = encoder.text_encoder._known
    door, other, puck = (known[text] for text in texts)
    near, far = (torch.nn.functional.cosine_similarity(door, each, dim=0) for each in (other, puck))
    assert near > far + 0.3
    assert not any(
        "known" in name or "encoder" in name for name in encoder.state_dict()
    )  # it is not saved with the policy


def test_words_can_be_read_in_two_ways_only():
    with pytest.raises(
        ConfigError, match=r"encoder\.text_encoder is 'clip'; choose one of learned, sentences"
    ):
        InstructionEncoder(SPEC, observed=2, text_encoder="clip")  # type: ignore[arg-type]


def test_an_observation_without_words_is_refused():
    with pytest.raises(ConfigError, match="reads one instruction, and the observation has none"):
        InstructionEncoder(ObsSpec({"state": ObsKey((2,))}), observed=2)
    with pytest.raises(ConfigError, match="encoder=language for words"):
        StateEncoder(SPEC, observed=2)


def test_balanced_windows_give_each_task_as_many(tiny_config):
    data = two_tasks()
    config = tiny_config(dataset=data, encoder=INSTRUCTED)
    windows = Windows(data.episode_ends, np.arange(len(data)), config.horizon)
    words = np.asarray(data.array("instruction"))
    found = balance_windows(data, config, windows)
    balanced = [bytes_to_text(each) for each in words[found.steps(slice(None))[:, 0]]]
    assert [balanced.count(text) for text in WORDS] == [18 * 14, 18 * 14]
    kept = set(found.newest.tolist())
    assert kept == set(range(len(data)))  # every window is still there
    plain = tiny_config()
    with pytest.raises(
        ConfigError, match="balances tasks by their instruction, and the observation has none"
    ):
        balance_windows(data, plain, windows)


@pytest.mark.parametrize("kind", ["unet", "mode"])
def test_one_policy_does_what_the_words_say(kind, tiny_config, tmp_path):
    data = two_tasks()
    settings = TrainingSettings(
        steps=150,
        batch=32,
        learning_rate=3e-3,
        warmup=10,
        threads=1,
        validation_share=0.0,
        balanced=True,
    )
    config = tiny_config(kind, data, encoder=INSTRUCTED)
    Trainer(data, config, settings, tmp_path / "run").run(progress=False)
    import hotstart

    agent = hotstart.load(tmp_path / "run")
    for task, text in enumerate(WORDS):
        agent.reset(0)
        action = agent.act(
            {"state": np.array([0.3, -0.2], np.float32), "instruction": text_to_bytes(text)}
        )
        assert np.abs(action - (2 * task - 1)).max() < 0.5
