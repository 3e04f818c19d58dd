"""Packs the inputs into zip, tar.gz, tar.xz and bz2 archives under /output and reads each back."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

SOURCE = Path("/inputs/tree")
OUTPUT = Path("/output")


def sources():
    return sorted(path for path in SOURCE.rglob("*") if path.is_file())


def name_of(path):
    return str(path.relative_to(SOURCE))


def make_zip(target):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sources():
            archive.write(path, name_of(path))
        archive.writestr("META/comment.txt", "packed in a sandbox\n")
        archive.comment = b"made by archives.py"
    with zipfile.ZipFile(target) as archive:
        return archive.testzip(), sum(info.file_size for info in archive.infolist())


def make_tar(target, mode):
    with tarfile.open(target, f"w:{mode}") as archive:
        for path in sources():
            info = tarfile.TarInfo(name_of(path))
            data = path.read_bytes()
            info.size, info.mtime, info.mode = len(data), 1_700_000_000, 0o640
            archive.addfile(info, io.BytesIO(data))
    with tarfile.open(target) as archive:
        return len(archive.getnames()), sum(member.size for member in archive)


def main():
    print("sources", len(sources()), sum(path.stat().st_size for path in sources()))
    print("zip", *make_zip(OUTPUT / "tree.zip"))
    print("tar.gz", *make_tar(OUTPUT / "tree.tar.gz", "gz"))
    print("tar.xz", *make_tar(OUTPUT / "tree.tar.xz", "xz"))
    text = b"".join(path.read_bytes() for path in sources())
    for module, extension in ((gzip, "gz"), (bz2, "bz2"), (lzma, "xz")):
        packed = module.compress(text)
        (OUTPUT / f"all.{extension}").write_bytes(packed)
        print(extension, len(packed) < len(text), module.decompress(packed) == text)
    with tarfile.open(OUTPUT / "tree.tar.gz") as archive:
        archive.extractall("/work/out")
    unpacked = sorted(os.path.relpath(path, "/work/out") for path in Path("/work/out").rglob("*") if path.is_file())
    print("unpacked", unpacked == [name_of(path) for path in sources()])


main()
