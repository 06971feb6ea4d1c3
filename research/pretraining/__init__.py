"""Makes the embedded small Janus from rendered scenes: ``python -m research.pretraining FOLDER``."""
