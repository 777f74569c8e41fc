"""The command line as a module: python -m dbp."""

import sys

from dbp.cli import main

sys.exit(main())
