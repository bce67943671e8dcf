"""Running a network: engines, predictor, export, quantisation."""
