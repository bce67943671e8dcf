"""What a vehicle is to this field: keypoints, surfaces, maps, colours, types, cameras."""
