"""Episodes as they are drawn: recorded, replayed and dreamed."""

from dataclasses import replace

import numpy as np
import pytest
from hotstart.commands.drawing import to_svg
from hotstart.commands.trace_film import build_stage, draw_trace
from hotstart.commands.trace_plots import choose_numbers, draw_curves
from hotstart.spec import ObsKey, ObsSpec
from hotstart.world_model.fitting import FitSettings
from hotstart.world_model.jump import JumpSettings
from hotstart.world_model.learning import learn
from hotstart.world_model.traces import (
    Trace,
    choose_episodes,
    trace_recorded,
    trace_replayed,
)

from .gate_play import CHUNK, record_play


@pytest.fixture(scope="module")
def learned():
    quick = FitSettings(updates=60, batch=64, judge_updates=30)
    parts = JumpSettings(hidden=24)
    return learn(record_play(40), CHUNK, fitting=quick, parts=parts, progress=False)


def test_half_of_the_episodes_are_successes_and_undisturbed_ones_stand_first():
    play = record_play(40)
    play = replace(play, reached=play.reached & (play.episode_of % 3 > 0))
    chosen = choose_episodes(play, 4)
    ends = [play.reached[play.first[each] : play.episode_ends[each]].any() for each in chosen]
    assert ends == [True, True, False, False]
    assert not play.explored[play.first[chosen]].any()
    begun = replace(play, reached=np.ones(len(play), bool))
    assert len(choose_episodes(begun, 4)) == 0


def test_a_replay_begins_at_the_recorded_step_and_goes_chunk_by_chunk(learned):
    found, held_out = learned
    recorded = trace_recorded(found.model, found.judge, held_out, 1)
    replayed = trace_replayed(found.model, found.judge, held_out, 1)
    assert len(recorded.ticks) == 30
    assert replayed.ticks.tolist() == list(range(0, 30, CHUNK))
    assert np.allclose(replayed.states["state"][0], recorded.states["state"][0])
    assert replayed.chance[0] == pytest.approx(recorded.chance[0])
    near = replayed.resample("state", np.array([0, 2, CHUNK, 99]))
    assert np.allclose(near[1], (near[0] + near[2]) / 2)
    assert np.allclose(near[3], replayed.states["state"][-1])
    reached = np.flatnonzero(held_out.reached[held_out.episode_of == 1])
    assert recorded.success == (int(reached[0]) if len(reached) else None)


def test_pictures_show_where_the_points_are(learned):
    _, held_out = learned
    stage = build_stage(held_out)
    assert stage is not None
    assert [point.name for point in stage.points] == ["point", "gate", "goal"]
    assert [view.name for view in stage.views] == ["from above"]
    states = {"state": np.array([[-0.3, 0.0, 0.2, 0.2], [0.3, 0.0, 0.2, 0.2]])}
    trace = Trace(np.array([0, 2]), states, np.array([0.0, 0.9]), None)
    frames = draw_trace(stage, trace)
    assert len(frames) == 3
    blue = [np.argwhere((frame == (0, 114, 178)).all(-1))[:, 1].mean() for frame in frames]
    assert blue[0] < blue[1] < blue[2]
    assert len(draw_trace(stage, replace(trace, success=1))) == 2


def test_without_positions_the_numbers_that_move_most_are_drawn(learned):
    found, held_out = learned
    bare = replace(held_out, obs_spec=ObsSpec({"state": ObsKey((4,))}))
    assert build_stage(bare) is None
    assert [number.name for number in choose_numbers(bare)] == ["state 0", "state 1"]
    assert [number.name for number in choose_numbers(held_out)] == ["point x", "point y"]
    recorded = trace_recorded(found.model, found.judge, held_out, 0)
    replayed = trace_replayed(found.model, found.judge, held_out, 0)
    drawing = to_svg(draw_curves(held_out, recorded, replayed))
    for name in ("point x", "point y", "probability of success"):
        assert f">{name}<" in drawing
