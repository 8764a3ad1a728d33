"""Train LoRAs of the LTX video models on your own GPUs."""

__version__ = "0.1.0"
