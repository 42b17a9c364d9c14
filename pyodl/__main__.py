"""``python -m pyodl``."""

import sys

from pyodl.cli import main

if __name__ == "__main__":
    sys.exit(main())
