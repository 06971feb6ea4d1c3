"""Tests on a provisioned federation of real processes."""
