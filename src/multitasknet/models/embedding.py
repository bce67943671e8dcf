"""What every network that embeds vehicles states of itself, beside what :mod:`.base` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, get_args

from ..vehicle.attributes import COLORS, TYPES, ClassMaps, class_ids, class_names
from .base import Arrays, Network, Spec

Distance: TypeAlias = Literal["euclidean", "cosine"]
DISTANCES: tuple[str, ...] = get_args(Distance)
COUNTS = ("num_ids", "num_colors", "num_types")

AnySpec = TypeVar("AnySpec", bound="EmbeddingSpec")


class EmbeddingSpec(Spec):
    """An architecture whose outputs are, as far as it has them, ``id_logits``, ``color_logits``,
    ``type_logits``, and last ``embedding``.

    Attributes:
        num_ids: rows of the identity classifier, which knows the training's vehicles alone; 0
            where it was left out.
        color_names, type_names: class names by index; empty without such heads.
    """

    num_ids: int
    color_names: tuple[str, ...]
    type_names: tuple[str, ...]

    @property
    def distance(self) -> Distance:
        """``cosine`` if embeddings have the length 1, so that squared Euclidean distances are
        2 - 2 cos."""
        return "cosine"

    @property
    def measure(self) -> str:
        """The distance of embeddings, in words."""
        by_angle = " of embeddings of length 1, so by angle" if self.distance == "cosine" else ""
        return f"squared Euclidean{by_angle}"

    @property
    def has_identities(self) -> bool:
        """Whether there are identity logits among the outputs."""
        return self.num_ids > 0

    @property
    def has_attributes(self) -> bool:
        """Whether there are colour and type among the outputs."""
        return bool(self.color_names)

    @property
    def num_colors(self) -> int:
        return len(self.color_names)

    @property
    def num_types(self) -> int:
        return len(self.type_names)

    @property
    def class_maps(self) -> ClassMaps:
        """The raw ids of the classes, by their names; vehicles, which have none, are 0, 1, ..."""
        return ClassMaps(
            tuple(range(self.num_ids)),
            class_ids(self.color_names, COLORS, "color"),
            class_ids(self.type_names, TYPES, "type"),
        )

    def unnormalized(self: AnySpec) -> AnySpec:
        """The same with embeddings as the identity classifier takes them, where that can be."""
        return self

    def logit_shapes(self) -> dict[str, tuple[int, ...]]:
        """The outputs before the embedding."""
        shapes: dict[str, tuple[int, ...]] = {}
        if self.has_identities:
            shapes["id_logits"] = (self.num_ids,)
        if self.has_attributes:
            shapes |= {"color_logits": (self.num_colors,), "type_logits": (self.num_types,)}
        return shapes


class EmbeddingNetwork(Network):
    """A network that embeds vehicles. Its Cells have the parts ``features``, from an image to
    ``[N, F]``, and ``heads``, from these and the other inputs to the outputs. ``classifier`` names
    the Dense that distinguishes the vehicles of a training."""

    classifier: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = COUNTS
    sidecar_fields: ClassVar[dict[str, str]] = Network.sidecar_fields | {
        "colors": "color_names",
        "types": "type_names",
    }

    def classified_length(self, cell: Any) -> float:
        """How much longer than the embeddings, unnormalised, is what the classifier takes."""
        return 1.0

    def describe(self, spec: Any) -> dict[str, str]:
        classes = [f"{spec.num_ids or 'no'} identities" if spec.is_complete else "no classifiers"]
        names = {}
        if spec.has_attributes:
            classes += [f"{spec.num_colors} colours", f"{spec.num_types} types"]
            names = {"colours": ", ".join(spec.color_names), "types": ", ".join(spec.type_names)}
        rows = {"classes": ", ".join(classes), "distance": spec.measure}
        return super().describe(spec) | rows | names

    def check_options(self, options: Mapping[str, Any]) -> None:
        super().check_options(options)
        counts = class_counts(options)
        if counts and not options.get("include_top", True):
            raise ValueError(f"{next(iter(counts))} with include_top=False, without classifiers")

    def spec_from_sidecar(self, spec: Any, values: Mapping[str, Any]) -> Any:
        """ValueError for another number of classes than the checkpoint has."""
        named = super().spec_from_sidecar(spec, values)
        counts = {}
        if spec.has_attributes:
            counts["colours"] = named.num_colors, spec.num_colors
            counts["types"] = named.num_types, spec.num_types
        # Without the classifier it names the vehicles that the weights were trained on.
        if spec.has_identities:
            counts["vehicles"] = len(values["vehicle_ids"]), spec.num_ids
        for kind, (stated, found) in counts.items():
            if stated != found:
                raise ValueError(f"it states {stated} {kind}, but the checkpoint has {found}")
        return named


def class_counts(options: Mapping[str, Any]) -> dict[str, int]:
    """The class counts among the options; TypeError or ValueError for one that suits no file."""
    counts = {}
    for name in COUNTS:
        count = options.get(name)
        if count is None:
            continue
        if not isinstance(count, Integral):
            raise TypeError(f"{name} must be an integer, not {type(count).__name__}: {count!r}")
        if count < 1:
            raise ValueError(f"{name} is {count}; expected at least 1")
        counts[name] = int(count)
    return counts


def with_counts(spec: AnySpec, counts: Mapping[str, int]) -> AnySpec:
    """The spec with these class counts; names stay where their number does."""
    changed: dict[str, Any] = {"num_ids": counts.get("num_ids", spec.num_ids)}
    if counts.get("num_colors", spec.num_colors) != spec.num_colors:
        changed["color_names"] = class_names(counts["num_colors"], COLORS, "color")
    if counts.get("num_types", spec.num_types) != spec.num_types:
        changed["type_names"] = class_names(counts["num_types"], TYPES, "type")
    return replace(spec, **changed)  # type: ignore[type-var]


def fresh_cells(rows: Mapping[str, int], arrays: Arrays) -> tuple[str, ...]:
    """The cells that the file has not, or has with another number of rows than wanted."""
    return tuple(
        cell
        for cell, count in rows.items()
        if f"{cell}.weight" not in arrays or arrays[f"{cell}.weight"].shape[:1] != (count,)
    )
