"""The only room that knows the model library.

Only what needs no tensors is re-exported here, so that importing the room never loads torch. The rest has one module
for each need: `family` opens a model, `lora` attaches an adapter, `miniature` writes a tiny model.
"""

from ltx_trainer.models.captioner import Captioner, locate_captioner
from ltx_trainer.models.facts import AudioFacts, ModelFacts, component_files
from ltx_trainer.models.locate import Located, locate_model
from ltx_trainer.models.lora_file import check_warm_start
from ltx_trainer.models.names import check_groups, lora_modules
from ltx_trainer.models.read import read_model

__all__ = [
    "AudioFacts",
    "Captioner",
    "Located",
    "ModelFacts",
    "check_groups",
    "check_warm_start",
    "component_files",
    "locate_captioner",
    "locate_model",
    "lora_modules",
    "read_model",
]
