"""FedUMM: models that understand pictures and make them, federated with LoRA or GeoDoRA (arXiv 2601.15390)."""
