"""Draws vehicles with exact labels and writes them in the PAMTRI layout.

A package of its own: of ``multitasknet`` it imports the knowledge of vehicles alone
(:mod:`multitasknet.vehicle`: keypoints, surfaces, colours, types, pose maps).
"""

from .dataset import SyntheticData, synthesize, take_picture
from .plan import Picture, VehiclePlan, make_plan
from .scene import Shot
from .scenes import SceneData, synthesize_scenes
from .work import SyntheticError

__all__ = [
    "Picture",
    "SceneData",
    "Shot",
    "SyntheticData",
    "SyntheticError",
    "VehiclePlan",
    "make_plan",
    "synthesize",
    "synthesize_scenes",
    "take_picture",
]
