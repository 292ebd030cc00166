"""`hicl view`: what a cache or a PLY can show, served live or written as a page."""
