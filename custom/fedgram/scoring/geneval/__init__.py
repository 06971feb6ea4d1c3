"""GenEval's six skills (Ghosh et al. 2023, arXiv 2310.11513): the rules, and detectors to choose from."""
