"""The prelude of a program that attempts forbidden actions, and prints ``found`` at its end."""

ATTEMPTS = """
import ctypes, json, os, socket
found = {}
def attempt(name, action):
    try:
        found[name] = repr(action())
    except BaseException as error:
        found[name] = type(error).__name__
"""
