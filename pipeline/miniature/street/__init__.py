"""The miniature out of doors: procedural streets in nuScenes' own layout."""
