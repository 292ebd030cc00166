"""The miniature: procedural furnished rooms in ScanNet's own layout, and the small teacher that reads them."""
