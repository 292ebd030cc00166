"""Captures: posed RGB-D frames as phones, robots and reconstruction programs write them."""
