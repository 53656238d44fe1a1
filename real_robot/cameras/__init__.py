"""Cameras of real robots: each in a process of its own, with the times of its pictures."""

from .base import Camera, CameraError
from .camera_process import CameraProcess
from .registry import make, read_camera
from .registry import names as camera_names

__all__ = ["Camera", "CameraError", "CameraProcess", "camera_names", "make", "read_camera"]
