"""VehiclePose: the 36 keypoints of a vehicle, by a network small enough for CPUs.

A residual network with a feature pyramid, all of 3x3 and 1x1 convolutions, whose 36 maps are
classifications over their cells. Sources: He et al., Deep Residual Learning for Image Recognition,
CVPR 2016; Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017.
"""
