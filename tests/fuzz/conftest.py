# Run as ``python tests/fuzz``, not imported.
collect_ignore_glob = ["harness.py", "mutations.py", "kind_*.py", "__main__.py"]
