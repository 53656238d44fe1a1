"""The joints of Franka arms: what their driver and their scene share. No numpy, no MuJoCo."""

JOINTS = tuple(f"joint{number}" for number in range(1, 8))
MARGIN_RAD = 0.1
"""Nearer to its ends a joint of an FR3 may move but slowly, and none is driven there."""
RANGES = {
    "fr3": (
        (-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159),
        (2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159),
    ),
    "panda": (
        (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
        (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
    ),
}
"""Of the joints [rad], as the maker states them."""
