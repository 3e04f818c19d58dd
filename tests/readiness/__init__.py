"""The readiness of this checkout for production, line by line of public checklists.

``docs/production-readiness.toml`` is the source. ``checklist`` reads it, ``proving`` runs its commands, ``page`` writes
``docs/production-readiness.md``. No line is ticked by hand: a line holds if its commands succeed.
"""
