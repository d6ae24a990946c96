"""The command: ``python -m sklearn_molge evaluate --help``."""

import sys

from sklearn_molge.evaluation._command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
