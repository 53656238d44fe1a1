"""Two rollouts in one picture, and the GIF of it."""

import numpy as np
import pytest
from hotstart.commands.demo_film import choose_seed
from hotstart.commands.side_by_side import GAP, HOLD_S, Panel, join_panels
from hotstart.commands.video import write_gif
from PIL import Image

SIZE = 64


def _rollout(ticks, success):
    frames = [np.full((SIZE, SIZE, 3), 10 * tick, np.uint8) for tick in range(ticks)]
    return Panel(frames, "DDIM-10", "10 evaluations", success)


def test_panels_run_together_and_the_one_that_ends_first_stays():
    pictures = join_panels([_rollout(3, True), _rollout(5, False)], 10.0)
    assert len(pictures) == 5 + HOLD_S * 10
    for tick, shades in {0: (0, 0), 2: (20, 20), 4: (20, 40), 9: (20, 40)}.items():
        middle = pictures[tick][-SIZE // 2]
        assert middle[SIZE // 2].tolist() == [shades[0]] * 3
        assert middle[SIZE + GAP + SIZE // 2].tolist() == [shades[1]] * 3


def test_success_is_marked_once_the_rollout_has_ended():
    pictures = join_panels([_rollout(3, True), _rollout(3, False)], 10.0)
    line = slice(0, -SIZE)
    left, right = slice(0, SIZE), slice(SIZE + GAP, None)
    assert (pictures[1][line, left] == pictures[1][line, right]).all()
    assert (pictures[2][line, left] != pictures[2][line, right]).any()


def test_a_gif_is_small_and_repeats(tmp_path):
    frames = join_panels([_rollout(9, True), _rollout(9, False)], 10.0)
    write_gif(tmp_path / "film.gif", frames, 10.0, 80)
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.width == 80
        assert gif.info["duration"] == 100
        assert gif.info["loop"] == 0


@pytest.mark.parametrize(
    ("first", "second", "seed", "said"),
    [
        ([True, False, True], [True, True, False], 8, "DDIM succeeded on 1, only RTI on 1."),
        ([True, False], [True, False], 7, "on all 2 both end alike"),
    ],
)
def test_the_filmed_seed_is_the_first_that_differs(first, second, seed, said):
    results = []
    for name, outcomes in (("ddim", first), ("rti", second)):
        episodes = [{"seed": 7 + i, "success": won} for i, won in enumerate(outcomes)]
        results.append({"inference": name, "per_episode": episodes})
    chosen, reason = choose_seed(*results)
    assert chosen == seed
    assert said in reason
