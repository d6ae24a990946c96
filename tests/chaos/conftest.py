# Run as ``python tests/chaos``, not imported.
collect_ignore_glob = ["harness.py", "write_*.py", "__main__.py"]
