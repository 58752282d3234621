"""``python -m generator``, the same as ``stowage``."""

from generator.cli import main

main()
