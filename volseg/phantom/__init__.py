"""Phantoms: volumes made by arithmetic alone, whose truth is known and which are nobody's data."""

from volseg.phantom.abdomen import Phantom, make_phantom

__all__ = ["Phantom", "make_phantom"]
