"""Histograms and quantiles of any number of values in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Bounds that people count in. The last bin has no upper bound.
DURATIONS = (0, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200)  # seconds of a recording
CONFIDENCES = tuple(round(0.05 * index, 2) for index in range(20))
CHARACTERS = tuple(range(0, 40, 2))  # a second of a segment
QUANTILES = {"p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}
_STEPS = 20_000  # bins for quantiles


@dataclass
class Distribution:
    """Counts values in bins.

    Attributes:
        bounds: lower bounds of the bins that are shown; the last one is open.
        top: values above are counted as this for quantiles.
        is_wide: whether quantiles need the same relative exactness everywhere, rather than the same absolute.
    """

    bounds: Sequence[float]
    top: float
    is_wide: bool = False
    values: int = 0
    total: float = 0.0
    least: float = np.inf
    most: float = -np.inf
    counts: np.ndarray = field(init=False)
    _fine: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros(len(self.bounds), np.int64)
        self._fine = np.zeros(_STEPS, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Count values; those that are not finite are left out."""
        values = values[np.isfinite(values)]
        if not len(values):
            return
        self.values += len(values)
        self.total += float(values.sum())
        self.least, self.most = min(self.least, float(values.min())), max(self.most, float(values.max()))
        # A confidence of float32 may be a little below the bound that it stands for.
        bins = np.searchsorted(np.asarray(self.bounds, float), values + 1e-9, side="right") - 1
        self.counts += np.bincount(bins.clip(0), minlength=len(self.bounds))
        places = (self._scaled(values) / self._scaled(np.array(self.top)) * _STEPS).astype(np.int64)
        self._fine += np.bincount(places.clip(0, _STEPS - 1), minlength=_STEPS)

    def quantile(self, share: float) -> float:
        """The value that this share of the values does not exceed, to about one bin of 20,000."""
        sums = np.cumsum(self._fine)
        place = (int(np.searchsorted(sums, share * self.values)) + 0.5) / _STEPS
        value = place * float(self._scaled(np.array(self.top)))
        value = float(np.expm1(value)) if self.is_wide else value
        return min(max(value, self.least), self.most)

    def as_record(self) -> dict[str, Any]:
        """For JSON: `bounds`, `counts`, and where there are values their number, mean and quantiles."""
        record: dict[str, Any] = {
            "values": self.values,
            "bounds": list(self.bounds),
            "counts": self.counts.tolist(),
        }
        if self.values:
            record |= {"mean": round(self.total / self.values, 4)}
            record |= {"least": round(self.least, 4), "most": round(self.most, 4)}
            record |= {name: round(self.quantile(share), 4) for name, share in QUANTILES.items()}
        return record

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        return np.log1p(values.clip(0)) if self.is_wide else values
