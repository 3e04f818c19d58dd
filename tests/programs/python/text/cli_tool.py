"""A command line with subcommands: converts numbers between bases, wraps text, makes tables of powers."""

import argparse
import string
import sys
import textwrap

DIGITS = string.digits + string.ascii_lowercase


def base(text):
    number = int(text)
    if not 2 <= number <= 36:
        raise argparse.ArgumentTypeError(f"base {number} is not in 2..36")
    return number


def to_base(number, radix):
    if number < 0:
        return "-" + to_base(-number, radix)
    digits = ""
    while number or not digits:
        number, digit = divmod(number, radix)
        digits = DIGITS[digit] + digits
    return digits


def convert(options):
    for text in options.numbers:
        number = int(text, options.source)
        print(f"{text} ({options.source}) = {to_base(number, options.target)} ({options.target})")


def wrap(options):
    text = " ".join(options.words)
    lines = textwrap.wrap(text, options.width)
    print("\n".join(line.center(options.width).rstrip() if options.centre else line for line in lines))


def powers(options):
    for number in range(1, options.upto + 1):
        print(*(f"{number**exponent:>8}" for exponent in options.exponent or [2]))


def parser():
    top = argparse.ArgumentParser(prog="cli_tool", description=__doc__)
    top.add_argument("-v", "--verbose", action="count", default=0)
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("convert")
    one.add_argument("numbers", nargs="+")
    one.add_argument("--from", dest="source", type=base, default=10)
    one.add_argument("--to", dest="target", type=base, default=2)
    one.set_defaults(run=convert)
    two = commands.add_parser("wrap")
    two.add_argument("words", nargs="*")
    two.add_argument("--width", type=int, default=20)
    two.add_argument("--centre", action=argparse.BooleanOptionalAction)
    two.set_defaults(run=wrap)
    three = commands.add_parser("powers")
    three.add_argument("upto", type=int)
    three.add_argument("-e", "--exponent", action="append", type=int)
    three.set_defaults(run=powers)
    return top


if __name__ == "__main__":
    chosen = parser().parse_args()
    if chosen.verbose:
        print("command:", chosen.command, "verbosity:", chosen.verbose, file=sys.stderr)
    chosen.run(chosen)
