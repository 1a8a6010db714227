"""The scheduler and the controllers: each a client of the API server and nothing else."""
