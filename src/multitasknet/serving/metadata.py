"""What an exported file says of itself, so that the file alone is enough to predict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from ..errors import MultiTaskNetError
from ..preprocessing import MAP_MEAN, MAP_STD, RGB_MEAN, RGB_STD
from ..spec import NetworkSpec, Variant

_KEY = "multitasknet"


class MetadataError(MultiTaskNetError, ValueError):
    """A file that this package did not export, or whose metadata is damaged."""


@dataclass(frozen=True)
class Metadata:
    """What stands in the metadata of an exported file.

    Attributes:
        spec: the architecture, with class names and input size.
        weights_sha256: of the file that the weights came from; empty for a network in memory.
        precision: ``float32``, ``float16`` or ``int8``.
        batch: the only batch size that the file takes; None for any.
    """

    spec: NetworkSpec
    weights_sha256: str = ""
    precision: str = "float32"
    batch: int | None = None

    def as_strings(self) -> dict[str, str]:
        """As names and values for a file; the normalisation is added for other readers."""
        value = asdict(self) | {
            "normalization": {
                "scale": "pixels / 255, then (value - mean) / std",
                "rgb": {"mean": RGB_MEAN, "std": RGB_STD},
                "maps": {"mean": MAP_MEAN, "std": MAP_STD},
            }
        }
        return {_KEY: json.dumps(value)}

    @classmethod
    def from_strings(cls, strings: Mapping[str, str], source: str) -> Metadata:
        """Read back; MetadataError that names ``source`` if that cannot be done."""
        try:
            value = json.loads(strings[_KEY])
            spec = NetworkSpec(**value["spec"])
            spec = replace(
                spec,
                variant=Variant(spec.variant),
                color_names=tuple(spec.color_names),
                type_names=tuple(spec.type_names),
                input_size=tuple(spec.input_size),
            )
            return cls(spec, value["weights_sha256"], value["precision"], value["batch"])
        except (KeyError, TypeError, ValueError) as error:
            raise MetadataError(
                f"{source}: it has no metadata of multitasknet ({type(error).__name__}: {error}); "
                f"write it with 'multitasknet export'"
            ) from error
