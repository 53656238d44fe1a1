"""Where servo motors keep their numbers: control tables of Feetech STS and Dynamixel X motors.

Sources: Feetech's memory table of the STS series; Robotis' e-manual of the X series, protocol 2.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Sign = Literal["none", "magnitude", "two"]


@dataclass(frozen=True)
class Register:
    """One number in a motor's memory, little-endian."""

    address: int
    size: int
    initial: int = 0
    sign: Sign = "none"
    """none; "magnitude": one bit is the sign; "two": two's complement."""
    sign_bit: int = 15
    """Which bit is the sign of a magnitude."""
    writable: bool = True

    def decode(self, raw: bytes) -> int:
        """The number that these bytes hold."""
        value = int.from_bytes(raw, "little", signed=self.sign == "two")
        if self.sign == "magnitude" and value >> self.sign_bit & 1:
            return -(value & ~(1 << self.sign_bit))
        return value

    def encode(self, value: int) -> bytes:
        """The bytes of a number; the nearest one that they can hold."""
        if self.sign == "two":
            most = 1 << 8 * self.size - 1
            return min(max(value, -most), most - 1).to_bytes(self.size, "little", signed=True)
        if self.sign == "magnitude":
            size = min(abs(value), (1 << self.sign_bit) - 1)
            raw = size | (1 << self.sign_bit if value < 0 else 0)
            return raw.to_bytes(self.size, "little")
        return min(max(value, 0), (1 << 8 * self.size) - 1).to_bytes(self.size, "little")


Table = Mapping[str, Register]

STEPS_PER_TURN = 4096
"""Of the encoders of STS and X motors."""

STS: Table = {
    "firmware_major": Register(0, 1, 3, writable=False),
    "firmware_minor": Register(1, 1, 10, writable=False),
    "model": Register(3, 2, 777, writable=False),
    "id": Register(5, 1, 1),
    "baud": Register(6, 1, 0),
    "return_delay": Register(7, 1, 250),  # 2 us
    "status_level": Register(8, 1, 1),
    "min_position": Register(9, 2, 0),
    "max_position": Register(11, 2, 4095),
    "max_temperature": Register(13, 1, 70),  # deg C
    "max_voltage": Register(14, 1, 140),  # 0.1 V
    "min_voltage": Register(15, 1, 40),  # 0.1 V
    "max_torque": Register(16, 2, 1000),  # 0.1 %
    "phase": Register(18, 1, 12),
    "unloading": Register(19, 1, 44),  # errors that switch the torque off, as bits
    "led_alarm": Register(20, 1, 47),
    "p_gain": Register(21, 1, 32),
    "d_gain": Register(22, 1, 32),
    "i_gain": Register(23, 1, 0),
    "minimum_force": Register(24, 2, 16),
    "dead_zone_cw": Register(26, 1, 1),
    "dead_zone_ccw": Register(27, 1, 1),
    "protection_current": Register(28, 2, 500),  # 6.5 mA
    "angular_resolution": Register(30, 1, 1),
    "homing_offset": Register(31, 2, 0, "magnitude", 11),
    "operating_mode": Register(33, 1, 0),  # 0: position
    "protective_torque": Register(34, 1, 20),  # %
    "protection_time": Register(35, 1, 200),  # 10 ms
    "overload_torque": Register(36, 1, 80),  # %
    "torque_enable": Register(40, 1, 0),
    "acceleration": Register(41, 1, 0),  # 100 steps/s^2; 0: as fast as it can
    "goal_position": Register(42, 2, 0, "magnitude", 15),
    "goal_time": Register(44, 2, 0),
    "goal_speed": Register(46, 2, 0, "magnitude", 15),  # steps/s; 0: as fast as it can
    "torque_limit": Register(48, 2, 1000),  # 0.1 %
    "lock": Register(55, 1, 1),
    "present_position": Register(56, 2, 0, "magnitude", 15, writable=False),
    "present_speed": Register(58, 2, 0, "magnitude", 15, writable=False),
    "present_load": Register(60, 2, 0, "magnitude", 10, writable=False),  # 0.1 %
    "present_voltage": Register(62, 1, 74, writable=False),  # 0.1 V
    "present_temperature": Register(63, 1, 30, writable=False),
    "status": Register(65, 1, 0, writable=False),
    "moving": Register(66, 1, 0, writable=False),
    "present_current": Register(69, 2, 0, "magnitude", 15, writable=False),  # 6.5 mA
}
"""Feetech STS3215. Addresses below 40 are kept without power, while `lock` is 0."""

STS_BAUDS = (1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400)
"""By the number in the register `baud`."""
STS_ERRORS = {0: "voltage", 1: "magnetic encoder", 2: "temperature", 3: "current", 5: "overload"}
"""Bits of the status byte that comes with every answer."""

X_SERIES: Table = {
    "model": Register(0, 2, 1200, writable=False),
    "firmware": Register(6, 1, 46, writable=False),
    "id": Register(7, 1, 1),
    "baud": Register(8, 1, 3),
    "return_delay": Register(9, 1, 250),  # 2 us
    "drive_mode": Register(10, 1, 0),  # bit 0: reversed, bit 2: profile by time
    "operating_mode": Register(11, 1, 3),  # 3: position, 4: several turns
    "secondary_id": Register(12, 1, 255),
    "protocol": Register(13, 1, 2),
    "homing_offset": Register(20, 4, 0, "two"),
    "moving_threshold": Register(24, 4, 10),
    "temperature_limit": Register(31, 1, 70),
    "max_voltage": Register(32, 2, 70),  # 0.1 V
    "min_voltage": Register(34, 2, 35),  # 0.1 V
    "pwm_limit": Register(36, 2, 885),
    "current_limit": Register(38, 2, 1750),  # mA
    "velocity_limit": Register(44, 4, 445),  # 0.229 rpm
    "max_position": Register(48, 4, 4095),
    "min_position": Register(52, 4, 0),
    "startup": Register(60, 1, 0),
    "shutdown": Register(63, 1, 53),  # errors that switch the torque off, as bits
    "torque_enable": Register(64, 1, 0),
    "led": Register(65, 1, 0),
    "status_level": Register(68, 1, 2),
    "registered": Register(69, 1, 0, writable=False),
    "hardware_error": Register(70, 1, 0, writable=False),
    "position_d_gain": Register(80, 2, 0),
    "position_i_gain": Register(82, 2, 0),
    "position_p_gain": Register(84, 2, 400),
    "bus_watchdog": Register(98, 1, 0, "two"),  # 20 ms; -1: it has stopped the motor
    "goal_pwm": Register(100, 2, 885, "two"),
    "goal_current": Register(102, 2, 1750, "two"),
    "goal_velocity": Register(104, 4, 0, "two"),
    "profile_acceleration": Register(108, 4, 0),  # 214.577 rev/min^2; 0: as fast as it can
    "profile_velocity": Register(112, 4, 0),  # 0.229 rpm; 0: as fast as it can
    "goal_position": Register(116, 4, 0, "two"),
    "realtime_tick": Register(120, 2, 0, writable=False),
    "moving": Register(122, 1, 0, writable=False),
    "moving_status": Register(123, 1, 0, writable=False),
    "present_pwm": Register(124, 2, 0, "two", writable=False),
    "present_current": Register(126, 2, 0, "two", writable=False),  # mA
    "present_velocity": Register(128, 4, 0, "two", writable=False),  # 0.229 rpm
    "present_position": Register(132, 4, 0, "two", writable=False),
    "velocity_trajectory": Register(136, 4, 0, "two", writable=False),
    "position_trajectory": Register(140, 4, 0, "two", writable=False),
    "present_voltage": Register(144, 2, 50, writable=False),  # 0.1 V
    "present_temperature": Register(146, 1, 30, writable=False),
}
"""Dynamixel XL330-M288. Addresses below 64 are kept without power, and locked by the torque."""

X_BAUDS = (9_600, 57_600, 115_200, 1_000_000, 2_000_000, 3_000_000, 4_000_000)
"""By the number in the register `baud`."""
X_ERRORS = {0: "voltage", 2: "temperature", 3: "encoder", 4: "electrical shock", 5: "overload"}
"""Bits of the register `hardware_error`."""


def describe_errors(bits: int, names: Mapping[int, str]) -> str:
    """What a byte of errors says in words: "overload, temperature"; empty where none is set."""
    words = [name for bit, name in names.items() if bits >> bit & 1]
    unnamed = bits & ~sum(1 << bit for bit in names)
    if unnamed:
        words.append(f"error bits {unnamed:#04x}")
    return ", ".join(words)
