"""The ``volseg`` command. Importing it loads neither torch nor MONAI; commands load what they use."""
