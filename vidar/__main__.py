"""`python -m vidar` is the command `vidar`."""

from vidar.cli import main

if __name__ == "__main__":
    main()
