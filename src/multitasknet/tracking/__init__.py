"""Videos: frames, detectors, and the vehicles in them as tracks with one embedding each."""
