"""``python -m rbst``, the same as the command ``rbst``."""

from rbst_command import main

if __name__ == "__main__":
    raise SystemExit(main())
