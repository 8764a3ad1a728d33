"""How the embedded miniature is trained: one module for each part of the model."""
