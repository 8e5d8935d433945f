"""What `scripts/reproduce.py` trains and measures anew: one module a result."""
