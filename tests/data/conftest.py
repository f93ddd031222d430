import pytest
from jaxtyping import config


@pytest.fixture
def shape_hints_off():
    """Leave arguments unchecked by jaxtyping, so that our own errors come first."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)
