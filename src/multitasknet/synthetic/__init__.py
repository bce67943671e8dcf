"""Synthetic vehicles with exact labels, in the PAMTRI layout: data that anyone can have."""

from .dataset import SyntheticData, synthesize, take_picture
from .plan import Picture, SyntheticError, VehiclePlan, make_plan
from .scene import Shot
from .sheet import contact_sheet, draw_overlay

__all__ = [
    "Picture",
    "Shot",
    "SyntheticData",
    "SyntheticError",
    "VehiclePlan",
    "contact_sheet",
    "draw_overlay",
    "make_plan",
    "synthesize",
    "take_picture",
]
