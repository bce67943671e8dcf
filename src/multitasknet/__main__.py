"""``python -m multitasknet`` is the ``multitasknet`` command."""

from .cli import main

raise SystemExit(main())
