"""The table of families: how the models of each are read."""

from collections.abc import Mapping
from types import MappingProxyType

from ltx_trainer.errors import ModelError
from ltx_trainer.models.ltx2_reader import Ltx2Reader
from ltx_trainer.models.ltx_video_reader import LtxVideoReader
from ltx_trainer.models.reader import Reader

READERS: Mapping[str, Reader] = MappingProxyType({reader.family: reader for reader in (Ltx2Reader(), LtxVideoReader())})


def reader_of(family: str) -> Reader:
    """Give the reader of a family.

    Raises:
        ModelError: There is no such family.
    """
    if family not in READERS:
        raise ModelError(f"family {family!r} is not known. Known: {', '.join(READERS)}.")
    return READERS[family]
