"""DUO Studio: make a text-to-image diffusion model forget a concept, and prove that it did."""

__version__ = "0.1.0"
