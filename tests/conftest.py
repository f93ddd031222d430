"""What several test files share."""

import pytest
from hypothesis import settings
from jaxtyping import config

# The same examples on every run, and no folder of past ones beside the code.
settings.register_profile("attar", derandomize=True, database=None, deadline=None, max_examples=60)
settings.load_profile("attar")


@pytest.fixture
def shape_hints_off():
    """Let attar's own ShapeError come first: jaxtyping asks for this setting at every call."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)
