"""A recursive descent calculator over exact fractions: variables, functions, right associative powers, errors."""

import re
import sys
from fractions import Fraction

TOKEN = re.compile(r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<name>[a-z_]\w*)|(?P<op>[-+*/^(),=]))")
FUNCTIONS = {"max": max, "min": min, "abs": abs, "sum": lambda *values: sum(values, Fraction(0))}


class CalculatorError(Exception):
    pass


class Parser:
    def __init__(self, text, variables):
        self.tokens, self.variables, self.position = [], variables, 0
        end, text = 0, text.rstrip()
        while end < len(text):
            match = TOKEN.match(text, end)
            if not match:
                raise CalculatorError(f"unexpected {text[end:].lstrip()[0]!r}")
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            end = match.end()

    def peek(self):
        return self.tokens[self.position][1] if self.position < len(self.tokens) else None

    def take(self, *wanted):
        if self.peek() in wanted and self.peek() is not None:
            self.position += 1
            return self.tokens[self.position - 1][1]
        return None

    def expect(self, wanted):
        if not self.take(wanted):
            raise CalculatorError(f"expected {wanted!r}, found {self.peek() or 'the end'!r}")

    def statement(self):
        if len(self.tokens) > 2 and self.tokens[0][0] == "name" and self.tokens[1][1] == "=":
            self.position = 2
            value = self.variables[self.tokens[0][1]] = self.expression()
        else:
            value = self.expression()
        if self.peek() is not None:
            raise CalculatorError(f"unexpected {self.peek()!r}")
        return value

    def expression(self):
        value = self.term()
        while operator := self.take("+", "-"):
            right = self.term()
            value = value + right if operator == "+" else value - right
        return value

    def term(self):
        value = self.unary()
        while operator := self.take("*", "/"):
            right = self.unary()
            if operator == "/" and right == 0:
                raise CalculatorError("division by zero")
            value = value * right if operator == "*" else value / right
        return value

    def unary(self):
        return -self.unary() if self.take("-") else self.power()

    def power(self):
        base = self.atom()
        if not self.take("^"):
            return base
        exponent = self.unary()
        if exponent.denominator != 1:
            raise CalculatorError("only whole exponents")
        return base**exponent.numerator

    def atom(self):
        kind, text = self.tokens[self.position] if self.position < len(self.tokens) else (None, None)
        self.position += 1
        if kind == "number":
            return Fraction(text)
        if kind == "name" and self.take("("):
            arguments = [self.expression()]
            while self.take(","):
                arguments.append(self.expression())
            self.expect(")")
            if text not in FUNCTIONS:
                raise CalculatorError(f"no function {text!r}")
            return FUNCTIONS[text](*arguments)
        if kind == "name":
            if text not in self.variables:
                raise CalculatorError(f"no variable {text!r}")
            return self.variables[text]
        if text == "(":
            value = self.expression()
            self.expect(")")
            return value
        raise CalculatorError(f"unexpected {text or 'the end'!r}")


failed = 0
memory = {}
for number, source in enumerate(sys.stdin, 1):
    try:
        print(Parser(source, memory).statement())
    except CalculatorError as error:
        failed += 1
        print(f"line {number}: {error}", file=sys.stderr)
sys.exit(1 if failed else 0)
