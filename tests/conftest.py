"""What several test files share."""

import os
import shutil
import signal
from contextlib import contextmanager

import beartype
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one worker a core; processes that tests start inherit it
    os.environ["OMP_NUM_THREADS"] = "1"
import torch
from hypothesis import settings
from jaxtyping import config

# Where a hint says float an int will do, as PEP 484 and mypy have it. jaxtyping looks this name up
# in every module of attar that is imported from here on.
beartype.beartype = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))

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


@pytest.fixture(scope="session")
def few_digits():
    """Stand in for MNIST: 300 training and 100 test images, ten noisy patterns."""
    from attar.data import Mnist, TransferSet  # not above: jaxtyping has to come first

    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(256, (10, 28, 28), generator=generator)

    def draw(examples):
        hard_targets = torch.arange(examples) % 10
        noise = torch.randint(256, (examples, 28, 28), generator=generator)
        images = (patterns[hard_targets] + 3 * noise) // 4  # [examples, 28, 28]
        return TransferSet(images.to(torch.uint8), hard_targets, classes=10)

    return Mnist(train=draw(300), test=draw(100))


@pytest.fixture
def full_disk():
    """Make a context in which no file grows beyond some bytes, as on a disk that is full."""
    resource = pytest.importorskip("resource", reason="needs setrlimit")

    @contextmanager
    def limit(largest_bytes):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)

    return limit


@pytest.fixture
def folder_bytes():
    """Make the function that reads a folder: visible files, name -> bytes and time of change."""

    def read(folder):
        return {
            path.name: (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(folder.iterdir())
            if not path.name.startswith(".")
        }

    return read


@pytest.fixture(scope="session")
def browser():
    """A Chromium that is there, for pages; the tests that need it skip without."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs chromium: apt-get install chromium")
    from pages.browser import ARGUMENTS, TIMEOUT_MS

    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program, args=ARGUMENTS, timeout=TIMEOUT_MS
        )
        yield started
        started.close()
