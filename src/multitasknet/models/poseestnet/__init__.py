"""PoseEstNet of PAMTRI: the 36 keypoints of a vehicle in a picture.

Sources: Tang et al., PAMTRI, ICCV 2019, section 3.1; Sun et al., Deep High-Resolution
Representation Learning for Human Pose Estimation, CVPR 2019 (HRNet-W32).
"""
