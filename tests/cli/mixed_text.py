# tests/cli/mixed_text.py: a text of many scripts that tokenizers are compared on, and the ids that shoal has for it.
import array
import json
import pathlib
import random
import re
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parents[2]
END = "<|endoftext|>"


def mixed_text(seed, size):
    """English, code, CJK, emoji, digits, runs of white space, and characters of all of Unicode."""
    draw = random.Random(seed)
    words = [word for name in ("README.md", "data/packing.cpp", "tests/cli/shoal_program.py")
             for word in re.split("(?<=[ \n])", (ROOT / name).read_text(encoding="utf-8"))]
    cjk = [chr(c) for low, high in ((0x4E00, 0x4E80), (0x3040, 0x30FF), (0xAC00, 0xAC40)) for c in range(low, high)]
    emoji = ["👩‍💻", "😀", "🇩🇪", "✨", "👍🏽", "❤️", "🏴‍☠️"]
    spaces = [" ", "  ", "\t", "\n", "\r\n", "\n\n", " " * 17, "\u00a0", "\u3000", "\u2003", "\u0085", "\u180e", "\u200b", "\u2028", "\v", "\f", "\x1c"]
    tricky = ["'s", "'ſ", "'S", "'LL", "don't", "e\u0301", "é", "①", "½", "٣٤", "१२३", "\u212a", "ﬁ", "ß", "ǅ", END, "<|a|>", "<tool>", "hello",
              "\u1e9b\u0323", "\u1100\u1161\u11a8", "\uac01", "\u304b\u3099", "\0", "\ufffd", "\u0345", "x\u0323\u0307"]
    # The two libraries have Unicode's tables of different years. What Unicode 3.2 had is the same in both.
    old = unicodedata.ucd_3_2_0
    everything = [chr(c) for c in range(0x110000) if old.category(chr(c)) not in ("Cn", "Cs")]
    blocks = [everything[:128], everything[:6000], everything]
    parts, so_far = [], 0
    while so_far < size:
        kind = draw.random()
        if kind < 0.5:
            part = "".join(draw.choices(words, k=6))
        elif kind < 0.65:
            part = "".join(draw.choices(cjk, k=draw.randint(1, 12)))
        elif kind < 0.7:
            part = draw.choice(emoji) * draw.randint(1, 3)
        elif kind < 0.8:
            part = draw.choice(spaces) * draw.randint(1, 4)
        elif kind < 0.88:
            part = draw.choice(tricky)
        elif kind < 0.92:
            part = str(draw.randint(0, 10 ** draw.randint(1, 12)))
        else:
            part = "".join(draw.choice(draw.choice(blocks)) for _ in range(draw.randint(1, 10)))
        parts.append(part)
        so_far += len(part.encode("utf-8"))
    return "".join(parts)


def documents_of(text):
    return [text[at:at + 5000] for at in range(0, len(text), 5000)] + [text[:100_000]]


def write_documents(test, name, documents):
    return test.write(name, "".join(json.dumps({"text": text}) + "\n" for text in documents))


def shoal_ids(test, tokenizer, documents):
    """Ids of each document, from the token files that `shoal tokenize` writes in the test's folder."""
    write_documents(test, "documents.jsonl", documents)
    test.shoal("tokenize", "--tokenizer", tokenizer, "--input", "documents.jsonl", "--output", "out", "--force")
    end = json.loads((test.folder / "out.note.json").read_text())["eod_id"]
    tokens = array.array("H")
    tokens.frombytes((test.folder / "out.bin").read_bytes())
    found = [[]]
    for token in tokens:
        if token == end:
            found.append([])
        else:
            found[-1].append(token)
    return found[:-1]


def reference_ids(tokenizer, documents):
    """The same from Hugging Face's tokenizers."""
    tokenizer.encode_special_tokens = True  # what documents say is text
    return [encoding.ids for encoding in tokenizer.encode_batch(documents, add_special_tokens=False)]


def assert_same_ids(test, reference, ours, theirs):
    """`reference`: the library's tokenizer, which says what the ids are."""
    test.assertEqual(len(ours), len(theirs))
    for found, expected in zip(ours, theirs):
        if found != expected:
            at = next(i for i, pair in enumerate(zip(found + [None], expected + [None])) if pair[0] != pair[1])
            near = slice(max(at - 2, 0), at + 5)
            test.fail(f"token {at}: {found[near]} for {expected[near]}, which are "
                      f"{reference.decode(expected[near], skip_special_tokens=False)!r}")
