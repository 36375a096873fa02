"""Formats that nothing here reads, under the names of those that are read: libraries may know them by their content."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable

from scripts.benchmarks.hostile.reach import Chance, Reach

NAME_BYTES = 200
"""Room for the name of a file in ``ELSEWHERE``."""

ELSEWHERE = zlib.decompress(
    base64.b85decode(
        "c-rln&2JJx6u@U@i;x<X8WIr|_SmT9Lm@U^N>gZQtkTera4a?(B(^{(G4$q5JlQ|Nn?0G{JbLx!&3N-);N}r`cjhg-lkVaN7?k%*"
        "+Lt%;c87VqdEvd?*M;2brP;_VF$e_63<(lDeZiN6Q-}FIA*qmEAx{~MQ*$mX#^=QSWxMTCK5tm}C19Ob3YYT)nMMlv<xNADg}x}{"
        "CnnkDR(G}5QLRzu`ug^x^}|Y4gLz$d%tPF&F6$Nxxe`+uyZqe#w?RXMFsdVkzY-$!x~>>O9<;^-#K#C#Sm3H|L3Pyx4jO%zeZTdj"
        "n4?62DWWRg?ttU;dB(Z^ccEYNJC92vF&$yzmTqLf3`;ks5hA`h1k=sntUmBN?UK^@FN`UEgJK{V8Db|6d^z@$3*Iy?3Jf-}wo=@n"
        "wjEQOoye~l^`Q2&RcRfoFL)+>sHWnnd-0Sp59!z^<jzWAxnv|pX*?58#}{p%<Kzkk9fBYTf*=TjAP9o|ErvD5$Su)eKvzvA&=@-t"
        "`ZFOv#>cxZZ;)HPbMi(s;-EhzH^`9lp~T01MnUI}gGU+AryIziX==0sx$m>)f1j=y<BT!$!hpDsLW3&5GAylpGLin^apkw-s&~WN"
        "9(GlTdfUN+mk)BBN)1}*fhKQz-!BXD&XDsd<mO#(JILSV__*SVZ<I2(xRPbqymU@ovf?a#k)->=z&+mPRp-uu&P3!%@H50$Cnoz%"
        "d|wlC9w5F$5U-Be-jes#qnaN`<9Pu*pJ0SPKLB09bdDehf*>QT|A~A3k6``yOZDUL{;qGj)REmO^+)#~@y7+pAH2e)3U$;IA*tSQ"
        "8@Kl#sI8Kc{p8o{O)6}RKGEKSv+lBp!Z`TV%5c&1EAG+MfnTM1@8yEiE>ZqJfc=c&z1g>_GgNw+``=)>T<uV+58mq4^_I5Z*7YN<"
        "Ki1lnT%}#HK3=O<t?9;F&B}hQUM0JYj&@)(F!k-@rY3#PKYhP%3~o7-+(Om0*blM!A9n"
    )
)
"""An HDF5 file as ITK writes images (24x20x16 voxels of a byte), whose voxels lie in the file ``/XXX…``."""


def hdf5(chance: Chance, reach: Reach) -> bytes:
    """An image whose voxels lie in another file, by external storage."""
    path = reach.path(chance).encode()[:NAME_BYTES]
    # More slashes at the begin of an absolute path change nothing; a relative one ends with a zero.
    name = path.rjust(NAME_BYTES, b"/") if path.startswith(b"/") else path.ljust(NAME_BYTES, b"\0")
    return ELSEWHERE.replace(b"/" + b"X" * (NAME_BYTES - 1), name)


def meta_image(chance: Chance, reach: Reach) -> bytes:
    """MetaImage, which names its voxels' file in its last line."""
    sizes = " ".join(map(str, reach.shape))
    path = chance.choice([reach.path(chance), "LOCAL", f"LIST\n{reach.path(chance)}", f"{reach.path(chance)} 1 3 1"])
    lines = ["ObjectType = Image", "NDims = 3", f"DimSize = {sizes}", "ElementType = MET_UCHAR",
    "ElementSpacing = 1 1 1",
             f"ElementDataFile = {path}"]  # fmt: skip
    return "\n".join(lines).encode() + b"\n" + bytes(reach.voxels)


def vtk(chance: Chance, reach: Reach) -> bytes:
    """VTK's legacy format."""
    sizes = " ".join(map(str, chance.choice([reach.shape, (2**31, 2**31, 1), (-1, 1, 1)])))
    head = f"# vtk DataFile Version 3.0\nx\nBINARY\nDATASET STRUCTURED_POINTS\nDIMENSIONS {sizes}\nSPACING 1 1 1\n"
    head += f"ORIGIN 0 0 0\nPOINT_DATA {reach.voxels}\nSCALARS s unsigned_char 1\nLOOKUP_TABLE default\n"
    return head.encode() + bytes(reach.voxels)


def mrc(chance: Chance, reach: Reach) -> bytes:
    """MRC, of electron microscopy."""
    sizes = chance.choice([reach.shape, reach.shape, (40000, 40000, 10), (-1, 2**31 - 1, 1)])
    head = struct.pack("<10i6f3i3f2i", *sizes, chance.choice([0, 1, 2, 6, 99]), 0, 0, 0, *sizes, 1, 1, 1, 90, 90, 90,
    1, 2, 3,
                       0, 1, 0, 0, chance.choice([0, 2**31 - 1]))  # fmt: skip
    return (head + bytes(208 - len(head)) + b"MAP \x44\x44\0\0").ljust(1024, b"\0") + bytes(reach.voxels)


def gipl(chance: Chance, reach: Reach) -> bytes:
    """GIPL, of Guy's Hospital."""
    sizes = chance.choice([(*reach.shape, 1), (65535, 65535, 65535, 1)])
    return (struct.pack(">4HH", *sizes, 8) + struct.pack(">4f", 1, 1, 1, 1)).ljust(252, b"\0") + struct.pack(
        ">I", 719555000
    )


def analyze(chance: Chance, reach: Reach) -> bytes:
    """The header of an Analyze pair, whose voxels lie in a file of its name."""
    head = bytearray(348)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *reach.shape, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, 2, 8)
    struct.pack_into("<8f", head, 76, *[1.0] * 8)
    head[344:348] = chance.choice([b"ni1\0", bytes(4)])
    return bytes(head)


def jpeg_2000(chance: Chance, reach: Reach) -> bytes:
    """A codestream of JPEG 2000 that claims many pixels."""
    edge = chance.choice([24, 40000, 2**31])
    size = struct.pack(">H8IH3B", 0, edge, edge, 0, 0, edge, edge, 0, 0, 1, 7, 1, 1)
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(size) + 2) + size + chance.randbytes(64)


def document(chance: Chance, reach: Reach) -> bytes:
    """What is no image at all."""
    path = reach.path(chance)
    return chance.choice([
        b"", b"\0", b"%PDF-1.7\n", b"MZ" + bytes(1000), b"\x7fELF" + bytes(100), b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        f"<!DOCTYPE x [<!ENTITY e SYSTEM 'file://{path}'>]><x>&e;</x>".encode(), path.encode(), b"{" * 10**5,
        b"%!PS\n(" + path.encode() + b") (r) file\n", b"8BPS" + bytes(100),
        b"GIF89a" + struct.pack("<HH", 65535, 65535),
        b"RIFF" + struct.pack("<I", 2**31) + b"WEBPVP8 ",
    ])  # fmt: skip


FOREIGN: tuple[Callable[[Chance, Reach], bytes], ...] = (
    hdf5, hdf5, hdf5, meta_image, vtk, mrc, gipl, analyze, jpeg_2000, document
)  # fmt: skip


def foreign(chance: Chance, reach: Reach) -> bytes:
    """One of them."""
    return chance.choice(FOREIGN)(chance, reach)
