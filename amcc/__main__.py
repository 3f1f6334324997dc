"""`python -m amcc`: the command line."""

from __future__ import annotations

from amcc.cli import main

if __name__ == "__main__":
    main()
