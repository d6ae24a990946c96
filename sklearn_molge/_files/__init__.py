"""Files that are written whole, read with suspicion and never run unasked."""
