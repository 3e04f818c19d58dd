"""``make bench-fleet``."""

from __future__ import annotations

import sys

from tests.bench.fleet.measuring import main

sys.exit(main())
