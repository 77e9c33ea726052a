"""The desk side of the suite: scenes to bag, replay, checks, evaluation through the node."""
