"""Run the command line with ``python -m biasaudio``."""

from biasaudio.cli.main import main

raise SystemExit(main())
