"""Values that a measure takes: tensors, numpy arrays, and labelled arrays of xarray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import xarray

#: Numbers with axes in the order that is asked for.
Values = Union[Tensor, np.ndarray, "xarray.DataArray"]


def are_counts(values: Tensor) -> bool:
    """Whether all values are whole numbers from 0 on."""
    return bool(((values >= 0) & (values == values.round())).all())


def as_tensor(values: Values, name: str) -> Tensor:
    """Values as a float64 tensor without a graph.

    Raises:
        ValueError: for values that are no real numbers.
    """
    if not isinstance(values, Tensor):
        found = np.asarray(values)
        if found.dtype.kind not in "biuf":
            raise ValueError(f"{name} must be real numbers, got {found.dtype}")
        values = torch.from_numpy(np.array(found, dtype=np.float64))
    if values.is_complex():
        raise ValueError(f"{name} must be real numbers, got {values.dtype}")
    return values.detach().double()
