"""Writes 5 MB of numbered, checkable lines, a part of it to stderr."""

import sys

SIZE = 5_000_000
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def lines():
    state = 1
    number = 0
    while True:
        state = state * 1103515245 + 12345 & 0x7FFFFFFF
        rotate = state % 26
        yield f"{number:07d} {ALPHABET[rotate:] + ALPHABET[:rotate]} {state:08x}\n"
        number += 1


def main():
    written = 0
    for number, line in enumerate(lines()):
        if written + len(line) > SIZE:
            line = "." * (SIZE - written - 1) + "\n"
        sys.stdout.write(line)
        written += len(line)
        if number % 10_000 == 0:
            print(f"{written} so far", file=sys.stderr)
        if written == SIZE:
            break
    print("end", file=sys.stderr)


if __name__ == "__main__":
    main()
