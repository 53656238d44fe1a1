"""RTDE, the binary protocol of Universal Robots' controllers: packets, variables and recipes.

A packet is its size (2 bytes, of the whole), its kind (1 byte) and a payload, big-endian; version 2
of the protocol. Source: Universal Robots, "Real-Time Data Exchange (RTDE) Guide".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

HEADER = struct.Struct(">HB")
REGISTERS = 48
"""Registers of whole numbers, and as many of floats, in each direction."""
MAX_HZ = 500.0


class Kind(IntEnum):
    """What a packet is."""

    VERSION = ord("V")
    CONTROLLER_VERSION = ord("v")
    TEXT = ord("M")
    DATA = ord("U")
    SETUP_OUTPUTS = ord("O")
    SETUP_INPUTS = ord("I")
    START = ord("S")
    PAUSE = ord("P")


CODES = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT32": "I",
    "UINT64": "Q",
    "INT32": "i",
    "DOUBLE": "d",
    "VECTOR3D": "3d",
    "VECTOR6D": "6d",
    "VECTOR6INT32": "6i",
    "VECTOR6UINT32": "6I",
}
"""How `struct` says the types of variables."""
LENGTHS = {name: int(code[:-1] or 1) for name, code in CODES.items()}


def _read_table(text: str) -> dict[str, str]:
    """Variable -> type, from lines of a type and names."""
    table = {}
    for line in text.strip().splitlines():
        kind, *names = line.split()
        for name in names:
            table[name] = kind
    return table


def _add_registers(table: dict[str, str], direction: str) -> dict[str, str]:
    for index in range(REGISTERS):
        table[f"{direction}_int_register_{index}"] = "INT32"
        table[f"{direction}_double_register_{index}"] = "DOUBLE"
    return table


OUTPUTS = _add_registers(
    _read_table("""
        DOUBLE timestamp actual_execution_time speed_scaling target_speed_fraction actual_momentum
        DOUBLE actual_main_voltage actual_robot_voltage actual_robot_current payload
        DOUBLE standard_analog_input0 standard_analog_input1
        DOUBLE standard_analog_output0 standard_analog_output1
        VECTOR6D target_q target_qd target_qdd target_current target_moment
        VECTOR6D actual_q actual_qd actual_current joint_control_output
        VECTOR6D actual_TCP_pose actual_TCP_speed actual_TCP_force
        VECTOR6D target_TCP_pose target_TCP_speed
        VECTOR6D joint_temperatures actual_joint_voltage payload_inertia ft_raw_wrench
        VECTOR6D actual_current_as_torque
        VECTOR3D actual_tool_accelerometer payload_cog
        INT32 robot_mode safety_mode safety_status
        UINT32 robot_status_bits safety_status_bits runtime_state
        UINT64 actual_digital_input_bits actual_digital_output_bits
        VECTOR6INT32 joint_mode
    """),
    "output",
)
"""What the controller tells."""
INPUTS = _add_registers(
    _read_table("""
        UINT8 standard_digital_output_mask standard_digital_output
        UINT8 configurable_digital_output_mask configurable_digital_output
        UINT8 tool_digital_output_mask tool_digital_output
        UINT8 standard_analog_output_mask standard_analog_output_type
        UINT32 speed_slider_mask
        DOUBLE speed_slider_fraction standard_analog_output_0 standard_analog_output_1
        VECTOR6D external_force_torque
    """),
    "input",
)
"""What a client sets."""

Value = float | Sequence[float]


@dataclass(frozen=True)
class Recipe:
    """The variables of a data packet, in order."""

    number: int
    names: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def known(self) -> bool:
        """Whether the controller has every variable."""
        return all(kind in CODES for kind in self.types)

    @cached_property
    def layout(self) -> struct.Struct:
        """Of the payload: the recipe's number, then the values."""
        return struct.Struct(">B" + "".join(CODES[kind] for kind in self.types))

    def pack(self, values: Iterable[Value]) -> bytes:
        """A data packet with these values, in order; vectors are sequences."""
        flat: list[float] = []
        for value in values:
            if isinstance(value, Sequence):
                flat += value
            else:
                flat.append(value)
        return pack(Kind.DATA, self.layout.pack(self.number, *flat))

    def unpack(self, payload: bytes) -> dict[str, Value]:
        """The values of a data packet's payload; raises struct.error for a wrong length."""
        flat = self.layout.unpack(payload)[1:]
        values: dict[str, Value] = {}
        at = 0
        for name, kind in zip(self.names, self.types, strict=True):
            length = LENGTHS[kind]
            if length == 1:
                values[name] = flat[at]
            else:
                values[name] = flat[at : at + length]
            at += length
        return values


def make_recipe(number: int, names: str, table: Mapping[str, str], used: set[str]) -> Recipe:
    """The recipe that a client asks for by names with commas; a variable that the controller lacks
    has the type NOT_FOUND, one that another client sets IN_USE.
    """
    wanted = tuple(name for name in names.split(",") if name)
    types = []
    for name in wanted:
        kind = table.get(name, "NOT_FOUND")
        if name in used:
            kind = "IN_USE"
        types.append(kind)
    return Recipe(number, wanted, tuple(types))


def pack(kind: Kind, payload: bytes = b"") -> bytes:
    """A whole packet."""
    return HEADER.pack(HEADER.size + len(payload), kind) + payload


def split_packets(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take the whole packets off the front of a buffer: the kind and the payload of each."""
    while len(buffer) >= HEADER.size:
        size, kind = HEADER.unpack_from(buffer)
        if size < HEADER.size:
            raise struct.error(f"a packet of {size} bytes is shorter than its header")
        if len(buffer) < size:
            return
        payload = bytes(buffer[HEADER.size : size])
        del buffer[:size]
        yield kind, payload
