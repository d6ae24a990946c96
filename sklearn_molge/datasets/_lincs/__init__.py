"""The public L1000 releases: download, find, filter, load."""
