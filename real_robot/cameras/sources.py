"""Kinds of sources by name; the file of a kind is imported only when it is made."""

from __future__ import annotations

from ...system.plugins import Entry, Registry

OPENCV = 'pip install "opencv-python"'
REGISTRY = Registry(
    "camera",
    "hotstart.cameras",
    {
        "opencv": Entry("hotstart.real_robot.cameras.opencv:OpenCVSource", OPENCV),
        "video": Entry("hotstart.real_robot.cameras.video:VideoSource", 'pip install "av"'),
        "network": Entry("hotstart.real_robot.cameras.network:NetworkSource", OPENCV),
        "realsense": Entry(
            "hotstart.real_robot.cameras.realsense:RealSenseSource",
            'pip install "hotstart[realsense]"',
        ),
    },
)
