"""What scenes are built of: an arm's model from an installed package, motors, a table, cameras."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..spec import ConfigError, FloatArray, IntArray
from .rendering import load_mujoco
from .scene import HIDDEN_GROUP, STEP_S, VISIBLE_GROUP

ARM_BIT, TABLE_BIT = 2, 1
"""Bits of contact: links of the arm touch table and object, not one another."""


def read_model(package: str, path: str, install: str) -> Any:
    """The MjSpec of a file in an installed package, which is not imported.

    Raises ConfigError where the package is missing.
    """
    found = find_spec(package)
    if found is None or found.origin is None:
        raise ConfigError(f"the arm's model is in the package {package}: {install}")
    mujoco = load_mujoco()
    spec = mujoco.MjSpec.from_file(str(Path(found.origin).parent / path))
    spec.option.timestep = STEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    return spec


def simplify_meshes(spec: Any, folder: str, grid_m: float) -> None:
    """Draw the meshes of a spec, STL and OBJ files in `folder` beside it, with fewer triangles.

    Corners within a cell of the grid become one, which a small picture does not show: 323,000
    triangles of an SO-101 become 23,000 at 2 mm.
    """
    mujoco = load_mujoco()
    for mesh in spec.meshes:
        path = Path(spec.modelfiledir, folder, mesh.file)
        if path.suffix == ".obj":
            corners, faces = read_obj(path)
        else:
            corners, faces = read_stl(path)
        corners, faces = join_corners(corners, faces, grid_m)
        mesh.name, mesh.file = mesh.name or path.stem, ""
        mesh.uservert, mesh.userface = corners.ravel(), faces.ravel()
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL


def read_stl(path: Path) -> tuple[FloatArray, IntArray]:
    """Corners (V, 3) and faces (F, 3) of a binary STL file; every face has corners of its own."""
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    corners = np.fromfile(path, record, offset=84)["corners"].reshape(-1, 3).astype(np.float64)
    return corners, np.arange(len(corners)).reshape(-1, 3)


def read_obj(path: Path) -> tuple[FloatArray, IntArray]:
    """Corners (V, 3) and faces (F, 3) of an OBJ file of triangles.

    A face is `f 1//1 2//2 3//3`, or `f 1/1/1 2/2/2 3/3/3` with corners of a texture.
    """
    lines = path.read_text().splitlines()
    corners = " ".join([line[2:] for line in lines if line.startswith("v ")])
    faces = " ".join([line[2:] for line in lines if line.startswith("f ")])
    # Of each corner of a face the first number is its place, from 1, the last its normal's.
    numbers = faces.replace("//", "/0/").replace("/", " ")
    places = np.fromstring(numbers, np.int64, sep=" ").reshape(-1, 9)
    return np.fromstring(corners, np.float64, sep=" ").reshape(-1, 3), places[:, ::3] - 1


def join_corners(
    corners: FloatArray, faces: IntArray, grid_m: float
) -> tuple[FloatArray, IntArray]:
    """A mesh whose corners within a cell of a grid [m] are one, without the faces that vanish."""
    cells = np.round((corners - corners.min(0)) / grid_m).astype(np.int64)
    sizes = cells.max(0) + 1
    number = np.unique(np.ravel_multi_index(tuple(cells.T), sizes), return_inverse=True)[1]
    sums = [np.bincount(number, axis) for axis in corners.T]
    middles = np.stack(sums, 1) / np.bincount(number)[:, None]
    joined = number[faces]
    whole = (np.diff(np.sort(joined, 1), axis=1) > 0).all(1)
    return middles, np.unique(joined[whole], axis=0)


def delete_actuators(spec: Any) -> None:
    """Take away the file's own motors."""
    for actuator in list(spec.actuators):
        actuator.delete()


def add_motors(
    spec: Any, joints: tuple[str, ...], gains: FloatArray, dampings: FloatArray, torques: FloatArray
) -> None:
    """Motors that pull joints to a target: gains (J,) [Nm/rad], dampings (J,) [Nm s/rad].

    No motor pulls harder than its torque (J,) [Nm].
    """
    mujoco = load_mujoco()
    for joint, gain, damping, torque in zip(joints, gains, dampings, torques, strict=True):
        motor = spec.add_actuator(name=joint, target=joint)
        motor.trntype = mujoco.mjtTrn.mjTRN_JOINT
        motor.gaintype = mujoco.mjtGain.mjGAIN_FIXED
        motor.biastype = mujoco.mjtBias.mjBIAS_AFFINE
        motor.gainprm[0] = gain
        motor.biasprm[1], motor.biasprm[2] = -gain, -damping
        motor.forcelimited = True
        motor.forcerange = [-torque, torque]


def add_table(spec: Any, middle: tuple[float, float], side_m: float) -> None:
    """A table at z = 0, drawn as a square around `middle`, with a light above it."""
    mujoco = load_mujoco()
    world = spec.worldbody
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[side_m / 2, side_m / 2, 0.1],
        pos=[*middle, 0.0],
        rgba=[0.82, 0.80, 0.76, 1.0],
        contype=TABLE_BIT,
        conaffinity=TABLE_BIT | ARM_BIT,
        friction=[0.4, 0.005, 0.0001],
        group=VISIBLE_GROUP,
    )
    world.add_light(pos=[middle[0], middle[1] - 0.4, 1.5], dir=[0.0, 0.25, -1.0], diffuse=[0.6] * 3)
    spec.visual.headlight.ambient = [0.35] * 3
    spec.visual.headlight.diffuse = [0.35] * 3


def add_object(spec: Any, shape: Any, size: list[float], mass: float, rgba: list[float]) -> None:
    """The free body `object` of one geom."""
    body = spec.worldbody.add_body(name="object")
    body.add_freejoint()
    body.add_geom(
        name="object",
        type=shape,
        size=size,
        mass=mass,
        rgba=rgba,
        contype=TABLE_BIT,
        conaffinity=TABLE_BIT | ARM_BIT,
        friction=[0.4, 0.005, 0.0001],
        group=VISIBLE_GROUP,
    )


def add_goal(spec: Any, shape: Any, size: list[float], rgba: list[float]) -> None:
    """The body `goal`, which is seen and touches nothing."""
    goal = spec.worldbody.add_body(name="goal", mocap=True)
    goal.add_geom(
        type=shape, size=size, rgba=rgba, contype=0, conaffinity=0, mass=0, group=VISIBLE_GROUP
    )


def add_camera(
    body: Any, name: str, position: FloatArray, looked_at: FloatArray, fovy_deg: float
) -> None:
    """A camera of a body, at a position (3,) of its frame, that looks at another (3,), z up."""
    mujoco = load_mujoco()
    back = np.asarray(position, np.float64) - looked_at
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    if np.linalg.norm(right) < 1e-6:
        right = np.array([0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    matrix = np.stack([right, np.cross(back, right), back], 1)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, matrix.ravel())
    body.add_camera(name=name, pos=position, quat=quaternion, fovy=fovy_deg)


def set_contacts(spec: Any, body_names: list[str]) -> None:
    """Links of the arm touch what is not the arm; their shapes for contact are not drawn."""
    for name in body_names:
        for geom in spec.body(name).geoms:
            if geom.contype or geom.conaffinity:
                geom.contype, geom.conaffinity = ARM_BIT, 0
                geom.group = HIDDEN_GROUP
            else:
                geom.group = VISIBLE_GROUP
