"""`python -m milan_mm.doctor`, which `make` calls before anything else is known to work."""

import sys

from milan_mm.doctor.checks import main

sys.exit(main())
