import os
import subprocess
import sys

import numpy as np
import pytest
from hotstart.arms.rendering import (
    CameraView,
    RenderingError,
    SceneRenderer,
    choose_gl,
    draws,
    load_mujoco,
)

needs_gl = pytest.mark.skipif(
    choose_gl() is None, reason="no OpenGL library that draws without a screen"
)
FROM_BEHIND = CameraView(
    lookat_m=(0, 0, 0), distance_m=2.0, azimuth_deg=0.0, elevation_deg=0.0
)  # looks along +x
SCENE = """<mujoco><worldbody>
<geom type="sphere" size="0.2" pos="0 0 0.4" rgba="1 0 0 1"/>
<geom type="sphere" size="0.2" pos="0 0.4 0" rgba="0 1 0 1"/>
<geom type="sphere" size="0.2" pos="0 0 -0.4" rgba="0 0 1 1" group="2"/>
</worldbody></mujoco>"""


def picture(hidden=()):
    mujoco = load_mujoco()
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = SceneRenderer(model, FROM_BEHIND, (60, 80), hidden)
    frame = renderer.frame(data)
    renderer.close()
    renderer.close()
    return frame


def centre(frame, channel):
    """(row, column) of what is of one colour."""
    hold_position = np.delete(frame, channel, axis=2).max(axis=2).astype(int)
    return np.argwhere(frame[..., channel] > hold_position + 40).mean(axis=0)


@needs_gl
def test_up_is_up_left_is_left_and_colours_are_rgb():
    frame = picture()
    assert frame.shape == (60, 80, 3)
    assert frame.dtype == np.uint8
    red, green, blue = (centre(frame, channel) for channel in range(3))
    assert red[0] < 25 < 35 < blue[0]
    assert abs(red[1] - 39.5) < 2
    assert green[1] < 35  # +y is left of someone who looks along +x
    assert abs(green[0] - 29.5) < 2


@needs_gl
def test_hidden_groups_are_not_drawn():
    frame = picture(hidden=[2])
    assert np.isfinite(centre(frame, 0)).all()
    assert not (frame[..., 2] > frame[..., 0].astype(int) + 40).any()


@needs_gl
def test_works_when_mujoco_came_first_and_ends_quietly():
    program = (
        "import os, mujoco; os.environ.pop('MUJOCO_GL', None)\n"
        "from hotstart.arms.rendering import SceneRenderer, CameraView\n"
        "model = mujoco.MjModel.from_xml_string('<mujoco/>'); view = CameraView((0, 0, 0), 1, 0, "
        "0)\n"
        "print(SceneRenderer(model, view, (8, 8)).frame(mujoco.MjData(model)).shape, "
        "os.environ['MUJOCO_GL'])"
    )
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")
    }
    out = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert out.stdout.split(") ")[0] == "(8, 8, 3"
    assert out.stdout.split()[-1] in ("egl", "osmesa")
    assert out.stderr == ""


def test_a_library_that_is_not_there_does_not_draw():
    assert not draws("no_such_library")


def test_without_opengl_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disable")
    assert choose_gl() is None
    with pytest.raises(RenderingError, match=r"libegl1.*libosmesa6.*"):
        picture()


def test_what_the_user_chose_is_kept(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert choose_gl() == "osmesa"
