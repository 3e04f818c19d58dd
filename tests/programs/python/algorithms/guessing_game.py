"""A guessing game over input(): several rounds, bad answers, help, and the end of the input."""

import sys

HIGHEST = 100


def secrets():
    """The same numbers in every game."""
    state = 42
    while True:
        state = (state * 75 + 74) % 65537
        yield state % HIGHEST + 1


class Quit(Exception):
    pass


def ask(low, high):
    while True:
        answer = input(f"[{low}-{high}]? ").strip().lower()
        if answer in ("q", "quit"):
            raise Quit
        if answer == "half":
            return (low + high) // 2
        try:
            number = int(answer)
        except ValueError:
            print(f"{answer!r} is no number")
            continue
        if low <= number <= high:
            return number
        print("out of range")


def play(secret):
    low, high, tries = 1, HIGHEST, 0
    while True:
        guess = ask(low, high)
        tries += 1
        if guess == secret:
            print(f"yes, after {tries}")
            return tries
        if guess < secret:
            low = guess + 1
            print("higher")
        else:
            high = guess - 1
            print("lower")


def main():
    name = input("Name: ")
    print(f"Hello {name}!")
    rounds = []
    try:
        for secret in secrets():
            rounds.append(play(secret))
            if input("again? ") != "y":
                break
    except Quit:
        print("given up")
    except EOFError:
        print("\nend of input")
    print(f"{name}: {len(rounds)} rounds, {sum(rounds)} tries")
    return len(rounds)


if __name__ == "__main__":
    sys.exit(main())
