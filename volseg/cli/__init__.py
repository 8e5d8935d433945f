"""The ``volseg`` command: importing it loads neither torch nor MONAI, each command what it uses."""
