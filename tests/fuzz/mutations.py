"""How a file goes wrong on its way here: faults in cells, lines, bytes, encodings, YAML nodes and HDF5 objects."""

import io
from collections.abc import Callable
from random import Random

import h5py
import numpy as np

# Hypothesis draws a seed and Random makes the faults: a few faults are their own smallest example.
Mutate = Callable[[bytes, Random], bytes]

CELLS = [
    "", " ", "NaN", "mut", "0,25", "01.02.2024", "2024-01-02", "2-Jan", "45292", "1.2E+11", "#REF!", "#N/A",
    "../../etc/passwd", "/etc/passwd", "C:\\x", "~root", "=cmd|' /C calc'!A0", '"', "'", "\x1b[31m", "\u202e",
    "\ufeff", "\u200b", "\ud7ff\U0001f9ec", "x" * 1_000_000, "x" * 5_000, "9" * 5_000, "1e999", "-1", "0x10",
    "inf", "-0", "1_000", "\u0663", ";", "\t", "\r", "\n", "\r\n", "\x00", "\x85", "\u2028",
    "True", "TRUE", "None", "null", "1.0", "1.", ".5",
]  # fmt: skip

SCALARS = [
    "!!python/object/apply:os.system ['touch pwned']", "!!python/name:os.system", "!!python/object/new:type [x]",
    "!!binary aGVsbG8=", "!!timestamp 2024-01-01", "!custom x", "&a [*a]", "*a", "&a x", "{<<: {a: b}}", ".nan", ".inf",
    "-.inf", "1e999", "0x1F", "0o17", "1:30", "2024-01-01", "yes", "~", "null", "{}", "[]", "[[]]", "{a: b}", '""', "'",
    '"\\0"', "|", ">", "- x", "? x", "@x", "`x", "%x", "\t", "9" * 5_000, "-1", "1.5", "x" * 100_000, "[" * 3_000,
    "{a: " * 1_000, "../../../etc/passwd", "\U0001f9ec", "\x07", "[1, 2, 3]", "[a, a]", "1e-999", "True",
]  # fmt: skip


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Flips, cuts, repeats and swaps of bytes."""
    broken = bytearray(data)
    for _ in range(random.randint(1, 4)):
        if not broken:
            break
        at, kind = random.randrange(len(broken)), random.randrange(6)
        if kind <= 1:
            broken[at] = random.randrange(256)
        elif kind == 2:
            broken[at] ^= 1 << random.randrange(8)
        elif kind == 3:
            del broken[at : at + random.choice([1, 2, 8, 100, len(broken)])]
        elif kind == 4:
            broken[at:at] = broken[at : at + random.choice([1, 8, 512])]
        else:
            width = random.choice([1, 2, 4, 8])
            broken[at : at + width] = random.choice([b"\x00", b"\xff", b"\x7f"]) * width
    return bytes(broken)


def mutate_table(data: bytes, random: Random) -> bytes:
    """Faults of a CSV table: cells, lines, header, quotes, separators, then encoding and bytes."""
    text = data.decode()
    mark = "\t" if "\t" in text.partition("\n")[0] else ","
    lines = text.splitlines()
    for _ in range(random.randint(1, 3)):
        line = random.randrange(len(lines))
        kind = random.randrange(9)
        cells = lines[line].split(mark)
        if kind <= 1:
            cells[random.randrange(len(cells))] = random.choice(CELLS)
            lines[line] = mark.join(cells)
        elif kind == 2:
            lines.insert(line, random.choice(lines))
        elif kind == 3 and len(lines) > 1:
            del lines[line]
        elif kind == 4:
            cut = lines[line]
            lines[line] = random.choice([cut + mark, cut.rpartition(mark)[0], cut[: len(cut) // 2]])
        elif kind == 5:
            header = lines[0].split(mark)
            header[random.randrange(len(header))] = random.choice([*header, "", "Patient ID", "x" * 300, *CELLS[:10]])
            lines[0] = mark.join(header)
        elif kind == 6:
            lines = [one.replace(mark, random.choice([";", "\t", "|", ","])) for one in lines]
        elif kind == 7:
            lines[line] = '"' + lines[line]
        else:
            rest = lines[1:]
            random.shuffle(rest)
            lines[1:] = rest
        lines = lines or [""]
    return _encoded(random.choice(["\n", "\n", "\r\n", "\r"]).join(lines) + "\n", random)


def mutate_yaml(data: bytes, random: Random) -> bytes:
    """Faults of a YAML or JSON file: values, keys, indentation, lines, then encoding and bytes."""
    lines = data.decode().splitlines()
    for _ in range(random.randint(1, 3)):
        line, kind = random.randrange(len(lines)), random.randrange(7)
        key, colon, value = lines[line].partition(":")
        if kind <= 2:
            lines[line] = f"{key}{colon} {random.choice(SCALARS)}"
        elif kind == 3:
            lines.insert(line, random.choice(lines))
        elif kind == 4 and len(lines) > 1:
            del lines[line]
        elif kind == 5:
            lines[line] = random.choice([" " + lines[line], lines[line].strip(), f"{random.choice(SCALARS)}:{value}"])
        else:
            words = lines[line].split(" ")
            words[random.randrange(len(words))] = random.choice(SCALARS)
            lines[line] = " ".join(words)
    return _encoded("\n".join(lines) + "\n", random)


def _encoded(text: str, random: Random) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    kind = random.randrange(10)
    if kind == 0:
        other = random.choice(["utf-16", "latin-1", "utf-32", "cp1252", "utf-16-be"])
        return data.decode("utf-8", "replace").encode(other, "replace")
    if kind == 1:
        return b"\xef\xbb\xbf" * random.randint(1, 2) + data
    if kind == 2:
        return mutate_bytes(data, random)
    if kind == 3:
        return data[: random.randrange(len(data) + 1)]
    if kind == 4:
        return random.choice([b"PK\x03\x04", b"\x1f\x8b", b"\xd0\xcf\x11\xe0", b"%PDF"]) + data
    return data


def mutate_hdf5(data: bytes, random: Random) -> bytes:
    """Half of the time bytes; else one object or attribute becomes another, however large it claims to be."""
    if random.random() < 0.5:
        return mutate_bytes(data, random)
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        name = random.choice(sorted(file))
        if random.random() < 0.4:
            _mutate_attribute(file if random.random() < 0.5 else file[name], random)
        else:
            _replace_dataset(file, name, random)
    return buffer.getvalue()


def mutate_foreign_hdf5(data: bytes, random: Random) -> bytes:
    """As above, or bytes of the heap of text of variable length, in which damage sends the library round in circles."""
    heap = data.find(b"GCOL")
    if heap < 0 or random.random() < 0.5:
        return mutate_hdf5(data, random)
    broken = bytearray(data)
    for _ in range(random.randint(1, 2)):
        broken[heap + random.randrange(220)] = random.choice([0, 1, 255, random.randrange(256)])
    return bytes(broken)


def _mutate_attribute(holder: "h5py.Group | h5py.Dataset", random: Random) -> None:
    if not len(holder.attrs):
        return
    name = random.choice(sorted(holder.attrs))
    values = [-1, 0, 2**40, float("nan"), float("inf"), "", "x" * 20_000, "[" * 5_000, b"\xff\xfe", np.zeros(3),
              np.array(["a", "b"], dtype="S1"), h5py.Empty("f4"), True, "NaN"]  # fmt: skip
    del holder.attrs[name]
    if random.random() < 0.8:
        holder.attrs[name] = random.choice(values)


def _replace_dataset(file: h5py.File, name: str, random: Random) -> None:
    old = file[name][()] if isinstance(file[name], h5py.Dataset) else np.zeros(1)
    del file[name]
    kind = random.randrange(14)
    if kind == 0:
        return
    if kind == 1:
        file.create_group(name)
    elif kind == 2:  # a bomb: a shape without data behind it
        shape = random.choice([(2**40,), (2**31, 2), (10**6, 10**6), (2**20, 2**20, 2**20)])
        file.create_dataset(name, shape=shape, chunks=(1,) * len(shape), dtype=random.choice(["f4", "i8", "f8"]))
    elif kind == 3:  # a bomb: 256 MiB of nothing in a few kilobytes
        file.create_dataset(name, shape=(2**25,), chunks=(2**22,), dtype="f8", compression="gzip", fillvalue=1.0)
        file[name][: 2**22] = 0.0
    elif kind == 4:
        file[name] = h5py.SoftLink(random.choice(["/", f"/{name}", "/elsewhere"]))
    elif kind == 5:
        file[name] = h5py.ExternalLink(random.choice(["/etc/passwd", "../other.h5", "x.h5"]), "/features")
    elif kind == 6:
        file.create_dataset(name, shape=(4,), dtype="u1", external=[("/etc/passwd", 0, 4)])
    elif kind == 7:
        layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
        layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(4,))
        file.create_virtual_dataset(name, layout)
    elif kind == 8:
        file.create_dataset(name, data=np.array(["a", "b"], dtype=h5py.string_dtype()))
    elif kind == 9:
        file.create_dataset(name, data=h5py.Empty("f4"))
    elif kind == 10:
        file.create_dataset(name, data=np.zeros(3, dtype=[("x", "f4"), ("y", "S3")]))
    elif kind == 11:
        file.create_dataset(name, data=np.full(3, file.ref, dtype=h5py.ref_dtype))
    elif kind == 12:
        file.create_dataset(
            name, data=random.choice([old[:-1], old[..., None], old.ravel(), old.astype("f2"), old[:0]])
        )
    else:
        odd = random.choice([np.nan, np.inf, -1e300, 1e300])
        file.create_dataset(name, data=np.full(old.shape, odd))
