"""The teacher: a frozen vision-language model that labels pixels by words. `clip.py` puts its parts together."""
