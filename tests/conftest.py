"""What every test shares: a seeded generator, and hypothesis without clock, chance or memory."""

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("seeded", derandomize=True, deadline=None, database=None)
settings.load_profile("seeded")


@pytest.fixture
def rng():
    return np.random.default_rng(20210503)
