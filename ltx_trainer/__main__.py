"""`python -m ltx_trainer`."""

import sys

from ltx_trainer.cli import main

sys.exit(main())
