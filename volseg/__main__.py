"""``python -m volseg`` is the ``volseg`` command."""

from volseg.cli.main import main

main()
