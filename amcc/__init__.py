"""amcc makes trained neural networks smaller."""
__version__ = "0.1.0"
