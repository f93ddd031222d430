"""What tests with a cluster share."""

from contextlib import suppress

import pytest

RAY = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets and pipes that Ray leaves
]


def patiently(start):
    """Start what Ray gives 30 seconds to start, which a machine may be too busy for."""
    for _ in range(2):
        with suppress(Exception):
            return start()
    return start()
