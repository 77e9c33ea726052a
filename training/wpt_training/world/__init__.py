"""The occupancy world model W, its losses and report; perception heads for the student's pre-training."""
