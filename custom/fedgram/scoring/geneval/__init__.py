"""GenEval's six skills (Ghosh et al. 2023, arXiv 2310.11513): prompts, rules, detectors to choose from."""
