"""Put in front of a program that tries what it may not, and prints ``found`` in the end."""

ATTEMPTS = """
import ctypes, json, os, socket
found = {}
def attempt(name, action):
    try:
        found[name] = repr(action())
    except BaseException as error:
        found[name] = type(error).__name__
"""
