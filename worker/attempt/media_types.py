"""The media types of artifacts, by a fixed table of suffixes that is the same on every host and with every Python.

The standard library's answer depends on the host's ``mime.types``, and names the type of what is *inside* a compressed
file. A text has no charset here: programs write any encoding.
"""

from __future__ import annotations

UNKNOWN = "application/octet-stream"

# By the name's last suffix, in lower case. Compressed files have the type of their compression: a client that saw
# ``text/csv`` for ``a.csv.gz`` would parse gzip as a table.
TYPES = {
    # Compressed, and archives
    "gz": "application/gzip", "tgz": "application/gzip", "svgz": "application/gzip", "emz": "application/gzip",
    "taz": "application/gzip", "bz2": "application/x-bzip2", "tbz": "application/x-bzip2",
    "tbz2": "application/x-bzip2", "xz": "application/x-xz", "txz": "application/x-xz", "lzma": "application/x-lzma",
    "z": "application/x-compress", "zst": "application/zstd", "tzst": "application/zstd", "br": "application/x-brotli",
    "lz4": "application/x-lz4", "7z": "application/x-7z-compressed", "rar": "application/vnd.rar",
    "tar": "application/x-tar", "zip": "application/zip", "whl": "application/zip", "npz": "application/zip",
    "jar": "application/java-archive",
    # Data
    "csv": "text/csv", "tsv": "text/tab-separated-values", "json": "application/json", "ipynb": "application/json",
    "geojson": "application/geo+json", "jsonl": "application/jsonl", "ndjson": "application/x-ndjson",
    "yaml": "application/yaml", "yml": "application/yaml", "toml": "application/toml", "xml": "application/xml",
    "xsl": "application/xml", "xsd": "application/xml", "sql": "application/sql",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.file", "feather": "application/vnd.apache.arrow.file",
    "h5": "application/x-hdf5", "hdf5": "application/x-hdf5", "sqlite": "application/vnd.sqlite3",
    "db": UNKNOWN, "npy": UNKNOWN, "pkl": UNKNOWN, "bin": UNKNOWN,
    # Text
    "txt": "text/plain", "text": "text/plain", "log": "text/plain", "out": "text/plain", "err": "text/plain",
    "ini": "text/plain", "cfg": "text/plain", "conf": "text/plain", "diff": "text/x-diff", "patch": "text/x-diff",
    "md": "text/markdown", "markdown": "text/markdown", "rst": "text/x-rst", "tex": "text/x-tex",
    "html": "text/html", "htm": "text/html", "xhtml": "application/xhtml+xml", "css": "text/css",
    "ics": "text/calendar", "vcf": "text/vcard", "rtf": "application/rtf",
    # Sources. ``ts`` is taken for TypeScript, which programs here write, not for a linguist file or an MPEG stream.
    "js": "text/javascript", "mjs": "text/javascript", "cjs": "text/javascript", "jsx": "text/javascript",
    "ts": "application/typescript", "mts": "application/typescript", "cts": "application/typescript",
    "tsx": "application/typescript", "py": "text/x-python", "pyi": "text/x-python", "sh": "application/x-sh",
    "c": "text/x-c", "h": "text/x-c", "cc": "text/x-c", "cpp": "text/x-c", "hpp": "text/x-c", "java": "text/x-java",
    "go": "text/x-go", "rs": "text/x-rust", "rb": "text/x-ruby", "pl": "text/x-perl", "r": "text/x-r",
    "wasm": "application/wasm",
    # Images and fonts
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "jpe": "image/jpeg", "gif": "image/gif",
    "webp": "image/webp", "svg": "image/svg+xml", "bmp": "image/bmp", "ico": "image/vnd.microsoft.icon",
    "tif": "image/tiff", "tiff": "image/tiff", "avif": "image/avif", "heic": "image/heic",
    "ppm": "image/x-portable-pixmap",
    "pgm": "image/x-portable-graymap", "pbm": "image/x-portable-bitmap", "ttf": "font/ttf", "otf": "font/otf",
    "woff": "font/woff", "woff2": "font/woff2",
    # Documents
    "pdf": "application/pdf", "ps": "application/postscript", "eps": "application/postscript",
    "epub": "application/epub+zip", "doc": "application/msword", "xls": "application/vnd.ms-excel",
    "ppt": "application/vnd.ms-powerpoint",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "odt": "application/vnd.oasis.opendocument.text", "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "odp": "application/vnd.oasis.opendocument.presentation",
    # Sound and moving pictures
    "wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac", "ogg": "audio/ogg", "oga": "audio/ogg",
    "opus": "audio/ogg", "m4a": "audio/mp4", "aac": "audio/aac", "mid": "audio/midi", "midi": "audio/midi",
    "mp4": "video/mp4", "m4v": "video/mp4", "mpg": "video/mpeg", "mpeg": "video/mpeg", "webm": "video/webm",
    "ogv": "video/ogg", "mov": "video/quicktime", "avi": "video/x-msvideo", "mkv": "video/matroska",
}  # fmt: skip


def media_type(path: str) -> str:
    """The media type of an artifact's path; :data:`UNKNOWN` for an unknown suffix. Never with a charset."""
    stem, dot, suffix = path.rpartition("/")[2].rpartition(".")
    return TYPES.get(suffix.lower(), UNKNOWN) if stem and dot else UNKNOWN
