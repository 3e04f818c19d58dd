"""``make bench-hostile``."""

from __future__ import annotations

import sys

from tests.bench.taken.measuring import main

sys.exit(main())
