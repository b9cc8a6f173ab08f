"""`python -m coldaisle`."""

from coldaisle.cli import main

if __name__ == "__main__":
    main()
