"""`python -m woodshed` is the `woodshed` command."""

from .cli import main

if __name__ == "__main__":
    main()
