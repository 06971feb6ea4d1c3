"""fedgram: one shared transformer over unpaired silos, on NVIDIA FLARE."""

__version__ = "0.1.0"
