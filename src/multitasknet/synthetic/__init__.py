"""Synthetic vehicles with exact labels, in the PAMTRI layout: data that anyone can have."""

from ..report.overlay import contact_sheet, draw_overlay
from .dataset import SyntheticData, synthesize, take_picture
from .plan import Picture, SyntheticError, VehiclePlan, make_plan
from .scene import Shot

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
