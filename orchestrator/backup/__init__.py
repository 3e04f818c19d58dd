"""Backups: an installation's Redis, files and keys, encrypted to a public key of age, in a directory or a bucket.

Theory of operation. A target has, under names that begin alike for every backup::

    repository.json                the public key of the installation that writes here
    objects/ab/abcd…               a file of the blob directory each, encrypted; shared by all backups
    backups/<id>/redis.age         Redis at one moment, as a replica would receive it (RDB), encrypted
    backups/<id>/contents.age      the installation's own files, and the list of all files with their digests, encrypted
    backups/<id>/objects           the names of the objects that this backup needs
    backups/<id>/backup.json       the digests of the three above, signed; written last

A backup without its ``backup.json`` does not exist. Order of a backup: pause deletions, read Redis, then files. A
record of that moment then has all its files, since a file is written before its record and deletions wait. Files are
never changed under their name, except for outputs, which only grow.

An object's name is an HMAC of its content with a key of the installation, so equal files are stored once, and names
disclose no content to the owner of the target. Everything but names, sizes and numbers is encrypted to recipients whose
identities are elsewhere: the installation cannot read its own backups.
"""
