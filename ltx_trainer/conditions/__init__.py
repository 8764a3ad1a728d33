"""What is given of a clip beside its text: settled once, for training and for previews alike.

`terms` says it in numbers and `told` in words, without torch; `streams` makes tokens of it, `masks` cells of a mask.
"""

from ltx_trainer.conditions.terms import Cells, Terms, terms_of
from ltx_trainer.conditions.told import describe_conditions

__all__ = ["Cells", "Terms", "describe_conditions", "terms_of"]
