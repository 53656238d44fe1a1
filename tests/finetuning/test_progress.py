"""The learning curve and when it gained, and the figure of both."""

import pytest
from hotstart.commands.curves import draw_disagreement, tuning_curve
from hotstart.commands.drawing import to_svg
from hotstart.finetuning.progress import find_gains, read_curve, was_dreamed

METRICS = [
    {"training_steps": 1000.0, "success": 0.9, "episodes": 10.0},  # few episodes are no evidence
    {"training_steps": 2000.0, "success": 0.5, "episodes": 90.0},
    {"training_steps": 3000.0, "success": 0.7, "episodes": 100.0},
    {"step": 4.0, "loss": 1.0},
    {"training_steps": 4000.0, "success": 0.8, "episodes": 50.0},
    {"training_steps": 5000.0, "success": 0.7, "episodes": 0.0},
]


def test_the_running_mean_is_taken_over_a_hundred_episodes_or_more():
    curve = read_curve(METRICS)
    assert [point["steps"] for point in curve] == [1000, 2000, 3000, 4000, 5000]
    means = [point["mean"] for point in curve]
    assert means[0] is None
    assert means[1:] == pytest.approx([0.54, 0.7, 110 / 150, 110 / 150])


def test_a_gain_is_told_by_the_real_steps_until_the_mean_lay_above_the_base():
    curve = read_curve(METRICS)
    assert find_gains(curve, 0.6) == {"10": 3000, "20": None}
    assert find_gains(curve, 0.3) == {"10": 2000, "20": 2000}
    assert find_gains(curve, None) == {"10": None, "20": None}


def test_the_figure_shows_the_base_as_a_line_and_marks_what_was_gained():
    drawing = to_svg(tuning_curve(read_curve(METRICS), 0.6, {"10": 3000, "20": None}))
    assert ">base<" in drawing
    assert ">+10 points<" in drawing
    assert "+20 points" not in drawing
    assert ">base<" not in to_svg(tuning_curve(read_curve(METRICS)))


def test_a_run_in_dreams_goes_over_imagined_steps_and_gains_by_no_real_ones():
    dreamed = []
    for number, record in enumerate(METRICS):
        imagined = {"imagined_steps": 7000.0 * number, "disagreement": 0.01 * number}
        dreamed.append({**record, **imagined, "training_steps": 0.0})
    curve = read_curve(dreamed)
    assert [point["steps"] for point in curve][:2] == [0, 7000]
    assert was_dreamed(curve)
    assert not was_dreamed(read_curve(METRICS))
    assert find_gains(curve, 0.3) == {"10": None, "20": None}
    drawing = to_svg(tuning_curve(curve, 0.6))
    for text in ("imagined control periods", "success in dreams", ">before the tuning<"):
        assert text in drawing
    assert "real control periods" not in drawing
    assert "disagreement" in to_svg(draw_disagreement(curve))
