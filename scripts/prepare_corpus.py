#!/usr/bin/env python3
# scripts/prepare_corpus.py: splits text into documents, holds out 1 % of its bytes, writes JSONL and a manifest.
#
# usage: scripts/prepare_corpus.py --output FOLDER [--gcide FILE] [--perldoc FOLDER] [--own FILE...] [--note TEXT...]
#        scripts/prepare_corpus.py --output FOLDER --check
#
# Writes FOLDER/text/NAME_{train,validation}.jsonl (one {"text": ...} a line) for each source, and FOLDER/MANIFEST last:
# an interrupted run leaves no MANIFEST, so --check (exit 0 when every file is as the MANIFEST says) does not trust it.
#
#   --gcide FILE      gcide.dict.dz of Debian's dict-gcide: an entry of the dictionary is a document
#   --perldoc FOLDER  *.pod of Debian's perl-doc
#   --own FILE...     your own text or JSONL ("text" key), plain or .gz, together as the source "own"
#   --note TEXT       goes into the MANIFEST (where the source came from)
#
# The hold-out is drawn by the hash of each document's text: it depends on nothing else, and equal texts fall on the same
# side. Long texts (a POD, a plain text file) are cut into pieces at headings or blank lines first, or 1 % of their bytes
# would be one or two files; neighbouring pieces on the same side are joined again into one document.
import argparse
import codecs
import gzip
import hashlib
import itertools
import json
import os
import pathlib
import re
import sys

HELD_OUT_SHARE = 0.01
PIECE_BYTES = 8192  # most of a piece
SECTION_BYTES = 512  # least of a section
MANIFEST_VERSION = 1


class CorpusError(Exception):
    pass


def num_bytes(text):
    return len(text.encode("utf-8"))


def replace_cp1252(error):
    """gcide is ASCII but for three bytes that someone typed on Windows."""
    wrong = error.object[error.start:error.end]
    return wrong.decode("cp1252", errors="replace"), error.end


codecs.register_error("cp1252", replace_cp1252)


def read_bytes(path):
    """The file's bytes, unzipped."""
    try:
        if path.name.endswith((".gz", ".dz")):
            with gzip.open(path) as file:
                return file.read()
        return path.read_bytes()
    except (OSError, EOFError) as error:
        raise CorpusError(f"{path}: cannot be read ({error})") from error


# A source is a list of documents, a document a list of pieces that join to its text.

def cut_at_blank_lines(text, limit=PIECE_BYTES):
    """Pieces of at most `limit` characters where blank lines allow it; they join to `text`."""
    pieces, piece = [], ""
    cuts = [0] + [blank.end() for blank in re.finditer(r"\n(?:[ \t\r]*\n)+", text)] + [len(text)]
    for paragraph in (text[start:end] for start, end in itertools.pairwise(cuts)):
        if piece and len(piece) + len(paragraph) > limit:
            pieces.append(piece)
            piece = ""
        piece += paragraph
    return pieces + [piece] if piece else pieces


def cut_at_headings(pod):
    """Sections of a POD that start at =head1 or =head2; one too short to say anything goes with the next."""
    sections = [""]
    for section in re.split(r"^(?==head[12] )", pod, flags=re.MULTILINE):
        if len(sections[-1]) < SECTION_BYTES:
            sections[-1] += section
        else:
            sections.append(section)
    return sections


def gcide_documents(path):
    text = read_bytes(path).decode("utf-8", errors="cp1252")
    return [[entry] for entry in re.split(r"(?<=\n)(?=\S)", text) if entry.strip()]


def pod_documents(folder):
    paths = sorted(folder.glob("*.pod"))
    if not paths:
        raise CorpusError(f"{folder}: holds no .pod files")
    documents = []
    for path in paths:
        text = read_bytes(path).decode("utf-8", errors="cp1252")
        sections = cut_at_headings(text)
        documents.append([piece for section in sections for piece in cut_at_blank_lines(section)])
    return documents


def own_documents(paths):
    documents = []
    for path in paths:
        if path.suffix == ".zst" or path.name.endswith((".bin", ".idx")):
            raise CorpusError(f"{path}: expected plain text or JSONL, as it is or gzipped; decompress it first")
        try:
            text = read_bytes(path).decode("utf-8-sig")  # some editors start a file with a byte order mark
        except UnicodeDecodeError as error:
            raise CorpusError(f"{path}: byte {error.start} is not UTF-8; convert the file first (iconv)") from error
        if {".jsonl", ".ndjson"} & set(path.suffixes):
            documents += jsonl_documents(path, text)
        else:
            documents.append(cut_at_blank_lines(text))
    return documents


def jsonl_documents(path, text):
    documents = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise CorpusError(f"{path}:{number}: is not JSON ({error.msg})") from error
        if not isinstance(value, dict) or not isinstance(value.get("text"), str):
            raise CorpusError(f'{path}:{number}: expected an object with a string under "text"')
        if re.search("[\ud800-\udfff]", value["text"]):
            raise CorpusError(f"{path}:{number}: the text holds half of a UTF-16 pair, which is no character")
        if value["text"]:
            documents.append([value["text"]])
    return documents


def digest(text):
    return hashlib.sha256(text.encode("utf-8")).digest()


def choose_held_out(documents):
    """Digests of the pieces to hold out: in the order of their hashes, those that fit into the share."""
    sizes = {}
    for piece in itertools.chain.from_iterable(documents):
        key = digest(piece)
        sizes[key] = sizes.get(key, 0) + num_bytes(piece)
    target = HELD_OUT_SHARE * sum(sizes.values())
    held_out, total = set(), 0
    for key in sorted(sizes):
        if total + sizes[key] <= target:
            held_out.add(key)
            total += sizes[key]
    return held_out, total, target


def split(documents, name):
    """(training texts, validation texts)"""
    held_out, total, target = choose_held_out(documents)
    if total < target / 2:  # a few long documents: parts of them, then
        documents = [[part for piece in document for part in cut_at_blank_lines(piece)] for document in documents]
        held_out, total, target = choose_held_out(documents)
    if not held_out:
        raise CorpusError(f"{name}: {len(documents)} documents are too few to hold out {HELD_OUT_SHARE:.0%} of "
                          "their bytes, and have no blank lines to cut them at; give more text")
    sides = ([], [])
    for document in documents:
        for is_held_out, run in itertools.groupby(document, key=lambda piece: digest(piece) in held_out):
            sides[is_held_out].append("".join(run))
    return sides


def write_file(path, data):
    """Under a temporary name until it is whole and on disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_corpus(output, sources, notes):
    """sources: name -> documents"""
    manifest_path = output / "MANIFEST"
    (output / "text").mkdir(parents=True, exist_ok=True)
    manifest_path.unlink(missing_ok=True)
    files = {}
    for name, documents in sources.items():
        for side, texts in zip(("train", "validation"), split(documents, name)):
            path = f"text/{name}_{side}.jsonl"
            data = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode("utf-8")
            write_file(output / path, data)
            files[path] = {"sha256": hashlib.sha256(data).hexdigest(), "file_bytes": len(data), "documents": len(texts),
                           "text_bytes": sum(map(num_bytes, texts))}
            print(f"{path}: {files[path]['documents']:,} documents, {files[path]['text_bytes']:,} bytes of text")
    manifest = {"version": MANIFEST_VERSION, "notes": notes, "files": files}
    write_file(manifest_path, (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))


def is_whole(output):
    """Every file is there and is what the MANIFEST says."""
    try:
        manifest = json.loads((output / "MANIFEST").read_text(encoding="utf-8"))
        if manifest["version"] != MANIFEST_VERSION or not manifest["files"]:
            return False
        return all(hashlib.sha256((output / path).read_bytes()).hexdigest() == entry["sha256"]
                   for path, entry in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def main():
    parser = argparse.ArgumentParser(description="Splits text into documents, holds out 1 % of its bytes, writes JSONL.")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--gcide", type=pathlib.Path)
    parser.add_argument("--perldoc", type=pathlib.Path)
    parser.add_argument("--own", type=pathlib.Path, nargs="+")
    parser.add_argument("--note", action="append", default=[])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 0 if the corpus there is whole")
    arguments = parser.parse_args()
    if arguments.check:
        return 0 if is_whole(arguments.output) else 1
    try:
        sources = {}
        if arguments.gcide:
            sources["gcide"] = gcide_documents(arguments.gcide)
        if arguments.perldoc:
            sources["perldoc"] = pod_documents(arguments.perldoc)
        if arguments.own:
            sources["own"] = own_documents(arguments.own)
        if not sources:
            parser.error("nothing to do: give --gcide, --perldoc or --own")
        write_corpus(arguments.output, sources, arguments.note)
    except (CorpusError, OSError) as error:
        print(f"prepare_corpus: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
