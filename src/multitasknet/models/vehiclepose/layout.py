"""Parameter names: MindSpore's own, and those of the same network in PyTorch.

The two differ in how batch norms name their values, and in nothing else.
"""

from __future__ import annotations

ROOTS = (
    "stem",
    "stages",
    "laterals",
    "merges",
    "heatmap_head",
    "visibility_head",
    "facing_head",
)
MARK = r"heatmap_head\."
# What each choice of ``freeze`` holds fixed: stem and first two or three stages, or all but pyramid
# and heads.
FROZEN: dict[str, tuple[str, ...]] = {
    "none": (),
    "stages": ("stem.", "stages.0.", "stages.1."),
    "blocks": ("stem.", "stages.0.", "stages.1.", "stages.2."),
    "backbone": ("stem.", "stages."),
}
