"""Independent seeds for the purposes of one run."""

import hashlib


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Derive an independent seed for a purpose, such as the noise of one process."""
    digest = hashlib.sha256("/".join(str(part) for part in (seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
