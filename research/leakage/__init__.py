"""Leakage: what a curious server, or whoever has the released adapter, finds out about a site's own samples."""
