"""Cameras by kind, added by installed packages through the entry-point group `hotstart.cameras`."""

from __future__ import annotations

from ...spec import ConfigError, unknown
from .camera_process import CameraProcess
from .sources import REGISTRY

WEB = ("http://", "https://")


def names() -> list[str]:
    """The kinds that `make` knows, sorted."""
    return REGISTRY.names()


def make(
    kind: str,
    name: str = "camera",
    height: int = 240,
    width: int = 320,
    fps: float = 30.0,
    stale_s: float = 0.2,
    **options: object,
) -> CameraProcess:
    """A camera of a kind with the kind's own options; nothing is opened before `start`.

    kind: opencv, video, network, realsense, or one that a package adds
    name: what messages call it
    height: of its pictures [pixels]
    width: of its pictures [pixels]
    fps: pictures per second
    stale_s: `read` refuses a picture older than this [s]

    Raises ConfigError for an unknown kind or option.
    """
    REGISTRY.make(kind, **options)  # refuses unknown options here, where they were written
    return CameraProcess(kind, options, name, (height, width, 3), fps, stale_s)


def read_camera(name: str, text: str, **settings: float) -> CameraProcess:
    """A camera written as KIND:PLACE, or as the address of a network camera.

    Examples: `opencv:0`, `opencv:/dev/video2`, `video:take.mp4`, `realsense:823112060412`,
    `http://192.168.1.7:8080/stream`. `settings` are those of `make`. Raises ConfigError.
    """
    if text.startswith(WEB):
        return make("network", name, place=text, **settings)  # type: ignore[arg-type]
    kind = text.partition(":")[0]
    place = text.partition(":")[2]
    if kind not in names():
        raise ConfigError(
            f"camera {name} is {text!r}: {unknown('kind of camera', kind, names())}; "
            "it is written kind:place, as opencv:0"
        )
    return make(kind, name, place=place, **settings)  # type: ignore[arg-type]
