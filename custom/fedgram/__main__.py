"""The command line as ``python -m fedgram``."""

from fedgram.cli.main import app

app()
