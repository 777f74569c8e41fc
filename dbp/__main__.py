"""Runs the command line: python -m dbp."""

import sys

from dbp.cli import main

sys.exit(main())
