"""Where things lie in this checkout."""

from pathlib import Path

HELPERS = Path(__file__).parent
TESTS = HELPERS.parent
GOLDEN = TESTS / "golden"
ROOT = TESTS.parent
