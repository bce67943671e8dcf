"""MultiTaskNet of PAMTRI: identity, colour and type of a vehicle from its picture and its pose.

Source: Tang et al., PAMTRI: Pose-Aware Multi-Task Learning for Vehicle Re-Identification Using
Highly Randomized Synthetic Data, ICCV 2019.
"""
