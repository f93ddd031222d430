"""What tests with a cluster share."""

import pytest

ATTEMPTS = 3

RAY = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets and pipes that Ray leaves
]


def patiently(start):
    """Start what Ray gives 30 seconds to start, which a machine may be too busy for."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return start()
        except Exception:
            if attempt == ATTEMPTS:
                raise
