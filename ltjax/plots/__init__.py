"""Pictures of runs and embeddings."""
