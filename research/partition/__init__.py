"""One data set dealt to several sites: ``python -m research.partition OUT …``."""
