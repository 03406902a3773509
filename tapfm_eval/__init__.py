"""Clinical validation of pathology foundation models adapted to predict gene mutations from H&E slides."""

__version__ = "0.1.0"
