"""GenEval's six skills (Ghosh et al. 2023, arXiv 2310.11513): prompts, rules, and detectors that can be exchanged."""
