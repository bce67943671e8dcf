"""What made an embedding: only those of one origin can be compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EmbeddingOrigin:
    """What made embeddings; those of different origins cannot be compared.

    Attributes:
        weights_sha256: of the weights file, or of the values if they are no file's.
        variant: the network's input variant.
        input_size: height and width that images were brought to.
        precision: that the network ran in, ``float32``, ``bfloat16``, ``float16`` or ``int8``.
        preprocessing: version of what makes the network's inputs.
        distance: ``cosine`` if the embeddings have the length 1, else ``euclidean``.
    """

    weights_sha256: str
    variant: str
    input_size: tuple[int, int]
    precision: str = "float32"
    preprocessing: int = 1
    distance: str = "euclidean"

    def differences(self, expected: EmbeddingOrigin) -> str:
        """What is not as expected, for people."""
        return "; ".join(
            f"{name} {value}, not {getattr(expected, name)}"
            for name, value in vars(self).items()
            if value != getattr(expected, name)
        )
