"""The only room that knows the model library.

Only what needs no tensors is re-exported here, so that importing the room never loads torch. The rest has one module
for each need: `family` opens a model, `lora` attaches an adapter, `miniature` writes a tiny model.
"""

from ltx_trainer.models.folder import AudioFacts, ModelFacts, component_files, read_model
from ltx_trainer.models.locate import locate_model
from ltx_trainer.models.names import check_groups

__all__ = ["AudioFacts", "ModelFacts", "check_groups", "component_files", "locate_model", "read_model"]
