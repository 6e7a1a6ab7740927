"""Sequential recommendation with diffusion models: what each user takes next, learned from a log."""

__version__ = "0.1.0"
