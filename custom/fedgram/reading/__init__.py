"""A site's own files become samples; how samples become tokens is the modalities' part."""
