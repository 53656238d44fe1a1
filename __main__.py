"""`python -m hotstart`: the same door as the `hotstart` command."""

import sys

from .cli import main

sys.exit(main())
