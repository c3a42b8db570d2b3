"""Seeds made of other numbers, so that what is drawn at random depends on nothing else."""

import numpy as np


def derived_seed(*parts: int) -> int:
    """A 63-bit seed that differs, to all appearance at random, for every tuple of parts >= 0.

    Examples:
        >>> derived_seed(0, 7) == derived_seed(0, 7), derived_seed(0, 7) == derived_seed(7, 0)
        (True, False)
    """
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
