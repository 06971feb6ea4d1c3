"""Rendered scenes with exact truth: pictures, questions, captions and prompts to train and test FedUMM on."""
