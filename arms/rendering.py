"""Pictures of MuJoCo scenes without a screen: which OpenGL library to use, and a renderer with
cheap settings.

MuJoCo reads MUJOCO_GL once, when it is imported, and fails there if the library is missing; so
`choose_gl` runs before that.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import ConfigError, unknown

LIBRARIES = {"egl": "libegl1", "osmesa": "libosmesa6"}
"""MUJOCO_GL value -> the Debian package that holds the library, in the order of trying."""
OFF = ("disable", "disabled", "off", "false", "0")
"""Values of MUJOCO_GL that MuJoCo takes for "no rendering"."""


class RenderingError(RuntimeError):
    """A picture was asked for where none can be drawn."""


@dataclass(frozen=True)
class CameraView:
    """A free camera: it looks at a point [m] from a distance [m], turned about z (azimuth) and
    tilted (elevation) [deg].
    """

    lookat_m: tuple[float, float, float]
    distance_m: float
    azimuth_deg: float
    elevation_deg: float


Camera = CameraView | str
"""A free camera, or the name of one that the model has."""


def choose_gl() -> str | None:
    """Set MUJOCO_GL to a library that draws without a screen and return it, or None if there is
    none.

    What MUJOCO_GL already says is kept. Otherwise EGL and OSMesa are tried, each in a process of
    its own, because a failed attempt spoils the process it was made in. The answer stays in the
    environment variable, for child processes too.
    """
    known = os.environ.get("MUJOCO_GL", "").lower().strip()
    if known:
        if known in OFF:
            return None
        return known
    if sys.platform != "linux":
        if sys.platform == "darwin":
            return "cgl"
        return "wgl"
    working = next((name for name in LIBRARIES if draws(name)), None)
    os.environ["MUJOCO_GL"] = working or "disable"
    return working


def load_mujoco() -> Any:
    """MuJoCo, imported after `choose_gl`: its module lists no types."""
    choose_gl()
    return import_module("mujoco")


def draws(name: str) -> bool:
    """Whether MuJoCo opens a drawing surface with this value of MUJOCO_GL (about half a second)."""
    program = (
        f"from mujoco.{_module(name)} import GLContext; surface = GLContext(8, 8); "
        "surface.make_current(); surface.free()"
    )
    environment = {
        key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"
    } | {"MUJOCO_GL": name}
    try:
        attempt = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, timeout=60
        )
    except subprocess.TimeoutExpired:
        return False
    return attempt.returncode == 0


def explain_missing_gl() -> str:
    """What to install, or to change, so that pictures can be drawn."""
    packages = " or ".join(
        f"`apt-get install {package}` ({name})" for name, package in LIBRARIES.items()
    )
    return (
        f"no OpenGL library that draws without a screen (MUJOCO_GL is "
        f"{os.environ.get('MUJOCO_GL', 'not set')!r}). "
        f"On Debian or Ubuntu: {packages}; then unset MUJOCO_GL, or set it to one of "
        f"{', '.join(LIBRARIES)}, and start again"
    )


class SceneRenderer:
    """Draws one MuJoCo model, cheaply: no shadows, no reflections, no multisampling (3 to 4 times
    faster).

    It opens its drawing surface itself, so that it works whoever imported MuJoCo first, and with
    what setting.
    """

    def __init__(
        self,
        model: Any,
        camera: Camera,
        size: tuple[int, int] = (256, 256),
        hidden: Sequence[int] = (),
    ) -> None:
        """Draw `model` (an mjModel) in pictures of `size` = (height, width), leaving out the
        `hidden` groups of geoms.

        Raises RenderingError if no OpenGL library works, and ConfigError for a camera that the
        model does not have.
        """
        mujoco = load_mujoco()
        self._mujoco = mujoco
        self._surface = _open_surface(size)
        height, width = size
        model.vis.quality.offsamples = 0
        model.vis.global_.offheight, model.vis.global_.offwidth = height, width
        self._model, self._cameras = model, {camera: _camera(model, camera)}
        self._first = camera
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self.size = size
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = 0
        self._options, self._untouched = mujoco.MjvOption(), mujoco.MjvPerturb()
        for group in hidden:
            self._options.geomgroup[group] = 0
        _remember(self)

    def frame(
        self, data: Any, camera: Camera | None = None, size: tuple[int, int] | None = None
    ) -> NDArray[np.uint8]:
        """The scene in the state `data` (an mjData), as (H, W, 3) RGB, right side up.

        Another camera than the first, or a smaller size, costs nothing to set up. Raises
        ConfigError for an unknown camera.
        """
        mujoco = self._mujoco
        height, width = size or self.size
        if camera is None:
            chosen = self._first
        else:
            chosen = camera
        if chosen not in self._cameras:
            self._cameras[chosen] = _camera(self._model, chosen)
        self._surface.make_current()
        shown, area = mujoco.mjtCatBit.mjCAT_ALL.value, mujoco.MjrRect(0, 0, width, height)
        view = self._cameras[chosen]
        mujoco.mjv_updateScene(
            self._model, data, self._options, self._untouched, view, shown, self._scene
        )
        mujoco.mjr_render(area, self._scene, self._context)
        picture = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(picture, None, area, self._context)
        return np.ascontiguousarray(picture[::-1])  # OpenGL's first row is the lowest

    def close(self) -> None:
        """Give back the drawing surface; may be called twice."""
        if self in _open:
            _open.discard(self)
            self._surface.make_current()
            self._context.free()
            self._surface.free()


def _open_surface(size: tuple[int, int]) -> Any:
    """MuJoCo's drawing surface of the chosen OpenGL library."""
    chosen = choose_gl()
    if chosen is None:
        raise RenderingError(explain_missing_gl())
    try:
        surface = import_module(f"mujoco.{_module(chosen)}").GLContext(size[1], size[0])
        surface.make_current()
    except Exception as error:  # each OpenGL library fails in its own way; the cause stays attached
        raise RenderingError(explain_missing_gl()) from error
    return surface


def _module(name: str) -> str:
    """MuJoCo's module for a value of MUJOCO_GL."""
    if name in (*LIBRARIES, "cgl"):
        return name
    return "glfw"


def _camera(model: Any, view: Camera) -> Any:
    mujoco = load_mujoco()
    camera = mujoco.MjvCamera()
    if isinstance(view, str):
        number = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA.value, view)
        if number < 0:
            raise ConfigError(
                unknown("camera", view, [model.camera(i).name for i in range(model.ncam)])
            )
        camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED.value, number
        return camera
    camera.lookat[:] = view.lookat_m
    camera.distance = view.distance_m
    camera.azimuth = view.azimuth_deg
    camera.elevation = view.elevation_deg
    return camera


_open: weakref.WeakSet[SceneRenderer] = weakref.WeakSet()


def _remember(renderer: SceneRenderer) -> None:
    """Have the renderer closed at exit, before OpenGL is: last registered is first called, so
    register after its import.
    """
    if not _open:
        atexit.unregister(_close_open)
        atexit.register(_close_open)
    _open.add(renderer)


def _close_open() -> None:
    for renderer in list(_open):
        renderer.close()
