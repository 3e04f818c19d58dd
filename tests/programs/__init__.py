"""Ordinary programs by environment, and in ``*_cases.py`` what each is given and has to come to."""

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{part}_cases" for part in ("bash", "data", "node", "python")))
pytest.register_assert_rewrite(f"{__name__}.cases")
