"""Pre-training of the small Janus that comes with the package, on rendered scenes."""
