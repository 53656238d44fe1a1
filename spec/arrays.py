"""Types of arrays.

Letters of the shapes: B rows, R chosen rows, To observed steps, T planned steps, Ta executed steps,
A numbers of an action.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
Observation = Mapping[str, NDArray[Any]]
"""Key -> array whose first axis is the row: (B, ...)."""
