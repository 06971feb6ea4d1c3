"""The study of the FedUMM paper, rerun on rendered scenes: clients, skew, methods, ranks, rounds."""
