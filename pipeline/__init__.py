"""Raw scans to cache: points, views, sets, features and labels, each a stage of one scene."""
