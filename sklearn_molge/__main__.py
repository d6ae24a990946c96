"""``python -m sklearn_molge``, which is the command ``molge``."""

import sys

from sklearn_molge._command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
