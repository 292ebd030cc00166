"""Datasets: one file each, yielding scenes (see `scene.Scene`)."""
