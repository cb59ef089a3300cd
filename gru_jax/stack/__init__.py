"""Stacks: layers and directions of GRUs, or of any other cell."""
