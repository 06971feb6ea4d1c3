"""Differential privacy by patient: what it costs, and an audit that tries to break it."""
