"""The metadata of an exported file, which make the file alone enough to predict from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import EngineError
from ..files import reading
from ..models import DEFAULT_NETWORK, find_network
from ..ranking.calibration import Calibration

_KEY = "multitasknet"
# Where an RGB file states the mean and deviation of the pixels that it takes.
RGB = "rgb"
_PRECISIONS = ("float32", "int8")


@dataclass(frozen=True)
class Metadata:
    """What an exported file states of itself.

    Attributes:
        spec: the architecture, with class names and input size.
        weights_sha256: of the file that the weights came from; empty if they are no file's.
        precision: ``float32`` or ``int8``.
        batch: the only batch size that the file takes; None for any.
        calibration: what distances between its embeddings mean; None if that is unknown.
    """

    spec: Any
    weights_sha256: str = ""
    precision: str = "float32"
    batch: int | None = None
    calibration: Calibration | None = None

    def as_strings(self) -> dict[str, str]:
        """As names and values for a file; the normalisation is added for other readers."""
        network = find_network(self.spec.network)
        value = {
            "network": network.name,
            "spec": network.spec_to_json(self.spec),
            "weights_sha256": self.weights_sha256,
            "precision": self.precision,
            "batch": self.batch,
            "calibration": self.calibration and asdict(self.calibration),
            "normalization": network.normalization(),
        }
        return {_KEY: json.dumps(value)}

    @classmethod
    def from_strings(cls, strings: Mapping[str, str], source: str) -> Metadata:
        """Read back; EngineError that names ``source`` if that fails."""
        remedy = "write it with 'multitasknet export'"
        with reading(source, EngineError, "it has no metadata of multitasknet", remedy):
            value = json.loads(strings[_KEY])
            if RGB in value:
                raise EngineError(
                    f"{source}: it takes RGB alone, for other programs; give the weights it was "
                    f"made from"
                )
            # The first release knew one network, and did not name it.
            network = find_network(value.get("network", DEFAULT_NETWORK))
            batch, precision = value["batch"], value["precision"]
            if precision not in _PRECISIONS:
                raise ValueError(f"precision is {precision!r:.100}")
            if batch is not None and (type(batch) is not int or batch < 1):
                raise ValueError(f"batch is {batch!r:.100}")
            spec = network.spec_from_json(value["spec"])
            stated = value.get("calibration")
            calibration = None if stated is None else Calibration.from_json(stated)
            return cls(spec, str(value["weights_sha256"]), precision, batch, calibration)
