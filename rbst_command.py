"""The command ``rbst``, from its first line on: an interrupt ends it with status 130 and no traceback.

It stands beside the package, since ``import rbst`` imports NumPy, which is most of the time that the command takes
to start. To catch ``KeyboardInterrupt`` would not do: C code that imports may turn it into another error.
"""

try:
    import os
    import signal
    import sys
except KeyboardInterrupt:
    raise SystemExit(130) from None


def _leave(*_: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


def _interrupt(*_: object) -> None:
    # A second Ctrl-C does not wait for what the first one ends.
    signal.signal(signal.SIGINT, _leave)
    raise KeyboardInterrupt


def main() -> int:
    """Import the package, then run its command line, which ends an interrupt in its own way."""
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:  # in the background of a shell it is ignored
        signal.signal(signal.SIGINT, _leave)
    from rbst.cli import main

    if heard:
        signal.signal(signal.SIGINT, _interrupt)
    status = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C finds a process that is ending
    return status


if __name__ == "__main__":
    sys.exit(main())
