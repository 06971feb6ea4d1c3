"""``python -m fedgram`` is the command line."""

from fedgram.cli import app

app()
