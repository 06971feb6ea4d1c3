"""Makes the embedded small Janus from rendered scenes: ``python -m fedgram.unified.pretraining FOLDER``."""
