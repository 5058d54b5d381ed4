"""Files that name other files and hosts: nothing of these may be fetched.

The canary is a text, a colour and a tone in files that nothing but these references names; it
shows if a decoder follows them. The hosts are a port of this machine where somebody counts.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from weft.samples.sounds import tone, wav

from .bombs import pdf, png, stream
from .good import Files, video

TEXT = "the canary sings at midnight"
COLOUR = (255, 0, 255)
HERTZ = 3000.0


def canaries() -> Files:
    """The files that are named."""
    picture = np.full((96, 128, 3), COLOUR, np.uint8)
    Image.fromarray(picture).save(file := io.BytesIO(), "PNG")
    sound = wav(tone(HERTZ, 0.5, 16_000), 16_000)
    return {
        "canary.txt": TEXT.encode(),
        "canary.png": file.getvalue(),
        "canary.wav": sound,
        "canary.ts": video("mpegts", "mpeg2video", {}, rate=25, pictures=[picture] * 8),
        "canary.mp4": video("mp4", "mpeg4", {}, pictures=[picture] * 8),
    }


def files(good: dict[str, Files], folder: Path, port: int) -> dict[str, bytes]:
    """All references, by ``<family>/reference/<what>``; canaries are in `folder`."""
    host = f"http://127.0.0.1:{port}"
    found = {}
    for family, made in (
        ("images", _images(good["images"], folder, host)),
        ("media", _media(good["media"], folder, host)),
        ("papers", _papers(folder, host)),
    ):
        found |= {f"{family}/reference/{name}": content for name, content in made.items()}
    return found


# --- playlists -------------------------------------------------------------------------------


def _media(good: Files, folder: Path, host: str) -> Files:
    local = f"file://{folder}"
    return _playlists(folder, host, local) | {
        "names-another-file.mov": _dref(good["clip.mov"], b"url ", f"{local}/canary.mp4"),
        "names-a-host.mov": _dref(good["clip.mov"], b"url ", f"{host}/canary.mp4"),
        "alias.mov": _dref(good["clip.mov"], b"alis", f"{folder}/canary.mp4"),
        "reference-movie.mov": _reference_movie(f"{host}/canary.mp4"),
        "linked-segments.mkv": _linked(good["clip.mkv"]),
        "playlist-behind-id3.mp3": b"ID3\x04\0\0\0\0\0\0" + _m3u8(f"{host}/canary.ts"),
        "playlist-in-a-clip.mp4": good["clip.mp4"] + _m3u8(f"{host}/canary.ts"),
        "streamed.avi": _gab2(good["clip.avi"], f"{local}/canary.mp4"),
    }


def _m3u8(address: str) -> bytes:
    return (
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\n"
        f"{address}\n#EXT-X-ENDLIST\n"
    ).encode()


def _playlists(folder: Path, host: str, local: str) -> Files:
    texts = {
        "passwd.m3u8": "#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "key.m3u8": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{host}/key"\n#EXTINF:1,\ncanary.ts\n',
        "variants.m3u8": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{host}/other.m3u8\n",
        "concat-protocol.m3u8": f"#EXTM3U\n#EXTINF:1,\nconcat:{folder}/canary.ts|{host}/x\n",
        "relative.ffconcat": "ffconcat version 1.0\nfile canary.ts\n",
        "absolute.ffconcat": f"ffconcat version 1.0\nfile '{folder}/canary.ts'\n",
        "host.ffconcat": f"ffconcat version 1.0\nfile {host}/canary.ts\n",
        "plain.concat": f"file 'canary.ts'\nfile '{host}/canary.ts'\n",
        "list.pls": f"[playlist]\nFile1={host}/canary.wav\nFile2=canary.wav\nNumberOfEntries=2\n",
        "list.ram": f"{host}/canary.wav\n",
        "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {host.rsplit(':', 1)[1]} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "manifest.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
        'type="static" mediaPresentationDuration="PT1S"><Period><AdaptationSet><Representation '
        f'id="1" bandwidth="1"><BaseURL>{host}/canary.mp4</BaseURL><SegmentBase/>'
        "</Representation></AdaptationSet></Period></MPD>",
        "list.xspf": '<?xml version="1.0"?><playlist version="1" xmlns="http://xspf.org/ns/0/">'
        f"<trackList><track><location>{host}/canary.wav</location></track></trackList></playlist>",
        "list.asx": f'<asx version="3.0"><entry><ref href="{host}/canary.wav"/></entry></asx>',
        "composition.xml": "<CompositionPlaylist><AssetMap>canary.mp4</AssetMap>"
        f"<Path>{host}/canary.mp4</Path></CompositionPlaylist>",
        "script.avs": f'AviSource("{folder}/canary.mp4")\n',
        "filters.lavfi": f"movie={folder}/canary.mp4[out0]",
        "numbered.img2": f"{folder}/canary.png",
        "subtitles.idx": "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:00:000\n",
        "laughs.xspf": _laughs(),
        "entity.mpd": f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "{local}/canary.txt">]>'
        "<MPD>&b;</MPD>",
    }
    segments = {
        "host": f"{host}/canary.ts",
        "file": f"{local}/canary.ts",
        "relative": "canary.ts",
        "crypto": f"crypto+file:{folder}/canary.ts",
        "data": "data:text/plain,canary",
        "subfile": f"subfile,,start,0,end,0,,:{folder}/canary.ts",
        "tcp": host.replace("http", "tcp"),
    }
    return {name: text.encode() for name, text in texts.items()} | {
        f"{name}.m3u8": _m3u8(address) for name, address in segments.items()
    }


def _laughs() -> str:
    lines = ['<!ENTITY a0 "ha">']
    lines += [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)]
    return f'<?xml version="1.0"?><!DOCTYPE a [{"".join(lines)}]><playlist>&a11;</playlist>'


# --- clips -----------------------------------------------------------------------------------


def _dref(clip: bytes, kind: bytes, address: str) -> bytes:
    """QuickTime whose media are in another file; the header is last, so that it may grow."""
    entry = (address.encode() + b"\0") if kind == b"url " else _alias(address)
    old = clip.index(b"dref") - 4
    size = struct.unpack_from(">I", clip, old)[0]
    new = _box(b"dref", struct.pack(">II", 0, 1) + _box(kind, bytes(4) + entry))
    grown = bytearray(clip[:old] + new + clip[old + size :])
    at = clip.index(b"moov") - 4
    assert at > clip.index(b"mdat")
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        place = grown.index(box, at) - 4
        length = struct.unpack_from(">I", grown, place)[0] + len(new) - size
        struct.pack_into(">I", grown, place, length)
    return bytes(grown)


def _alias(path: str) -> bytes:
    """A Macintosh alias: fixed fields, then the path as tag 18."""
    name = b"canary.mp4"
    fixed = struct.pack(">4sHHH", bytes(4), 150, 2, 0) + b"\4disk".ljust(28, b"\0") + bytes(12)
    fixed += bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16) + struct.pack(">hh", 0, 1)
    fixed = fixed.ljust(150, b"\0")
    text = path.encode()
    return fixed + struct.pack(">HH", 18, len(text)) + text + struct.pack(">HH", 0xFFFF, 0)


def _reference_movie(address: str) -> bytes:
    url = _box(
        b"rdrf", bytes(4) + b"url " + struct.pack(">I", len(address) + 1) + address.encode() + b"\0"
    )
    moov = _box(b"moov", _box(b"rmra", _box(b"rmda", url)))
    return _box(b"ftyp", b"qt  \0\0\2\0qt  ") + moov


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _linked(clip: bytes) -> bytes:
    """Matroska that goes on in another file: NextUID and NextFilename, over its muxer's name."""
    at = clip.index(b"\x4d\x80")
    size = clip[at + 2] & 0x7F
    name = b"canary.mp4"
    link = b"\x3e\xb9\x23\x84next" + b"\x3e\x83\xbb" + bytes([0x80 | len(name)]) + name
    room = 3 + size + 3 + (clip[at + 3 + size + 2] & 0x7F)  # WritingApp comes behind MuxingApp
    link = link[:room] if room < len(link) + 2 else link
    if room - len(link) >= 2:
        link += b"\xec" + bytes([0x80 | room - len(link) - 2]) + bytes(room - len(link) - 2)
    return clip[:at] + link + clip[at + room :]


def _gab2(clip: bytes, address: str) -> bytes:
    """AVI with a chunk of subtitles that is a playlist, the way of an old attack on players."""
    playlist = _m3u8(address)
    body = b"GAB2\0\2\0" + struct.pack("<I", 2) + b"x\0" + struct.pack("<HI", 4, len(playlist))
    chunk = b"02tx" + struct.pack("<I", len(body) + len(playlist)) + body + playlist
    at = clip.index(b"movi") + 4
    return clip[:at] + chunk + clip[at:]


# --- images ----------------------------------------------------------------------------------


def _images(good: Files, folder: Path, host: str) -> Files:
    postscript = (
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 40\n"
        f"({folder}/canary.txt) (r) file 100 string readstring pop show showpage\n%%EOF\n"
    )
    svg = (
        '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="60" height="40" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="{host}/canary.png"/>'
        f'<image href="file://{folder}/canary.png" width="60" height="40"/></svg>'
    )
    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(72))
    xmp = f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "{host}/x">]><a>&b;</a>'.encode()
    return {
        "image.svg": svg.encode(),
        "laughs.svg": _laughs().replace("playlist", "svg").encode(),
        "postscript.eps": postscript.encode(),
        "postscript.jpg": postscript.encode(),
        "postscript-behind-a-tiff.tif": good["photo.tif"] + postscript.encode(),
        "script.mvg": f"push graphic-context\nimage over 0,0 60,40 '{host}/canary.png'\n".encode(),
        "script.msl": f'<image><read filename="{folder}/canary.png"/></image>'.encode(),
        "label.png": f"label:@{folder}/canary.txt".encode(),
        "entity-in-xmp.png": png(
            ("IHDR", head), ("iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp), ("IDAT", pixels)
        ),
        "entity-in-xmp.jpg": good["photo.jpg"][:2]
        + b"\xff\xe1" + struct.pack(">H", len(xmp) + 31) + b"http://ns.adobe.com/xap/1.0/\0" + xmp
        + good["photo.jpg"][2:],
        "page.html": f'<html><meta http-equiv="refresh" content="0;url={host}/">'.encode(),
        "pixmap.xpm": f"/* XPM */ static char *x[] = {{ \"{folder}/canary.png\" }};".encode(),
    }  # fmt: skip


# --- documents -------------------------------------------------------------------------------


def _papers(folder: Path, host: str) -> Files:
    def catalog(entry: str, *objects: bytes) -> bytes:
        plain = pdf(objects)
        return plain.replace(b"/Catalog", b"/Catalog" + entry.encode(), 1)

    def annotation(action: str) -> bytes:
        about = f"<</Type/Annot/Subtype/Link/Rect[0 0 200 100]/A<<{action}>>>>"
        return pdf([about.encode()], page=b"/Annots[4 0 R]")

    outside = (
        f"/F({folder}/canary.png)/FFilter/DCTDecode/Type/XObject/Subtype/Image/Width 8/Height 8"
    )
    other = f"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Ref<</F({folder}/canary.pdf)/Page 0>>"
    draws = b"/Contents 4 0 R/Resources<</XObject<</X 5 0 R>>>>"
    script = f"app.launchURL('{host}/'); this.importDataObject('x', '{folder}/canary.txt')"
    form = (
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM '
        f'"file://{folder}/canary.txt">]><xdp>&b;</xdp>'
    )
    return {
        "uri.pdf": annotation(f"/S/URI/URI({host}/)"),
        "launch.pdf": annotation(f"/S/Launch/F({folder}/canary.txt)"),
        "go-to.pdf": annotation(f"/S/GoToR/F({folder}/canary.pdf)/D[0/Fit]"),
        "submit.pdf": annotation(f"/S/SubmitForm/F({host}/)"),
        "import.pdf": annotation(f"/S/ImportData/F({folder}/canary.txt)"),
        "on-open-uri.pdf": catalog(f"/OpenAction<</S/URI/URI({host}/)>>"),
        "on-open-launch.pdf": catalog(f"/OpenAction<</S/Launch/F({folder}/canary.txt)>>"),
        "on-open-script.pdf": catalog(
            "/OpenAction<</S/JavaScript/JS 4 0 R>>", stream(script.encode())
        ),
        "script-by-name.pdf": catalog(
            "/Names<</JavaScript<</Names[(x)<</S/JavaScript/JS 4 0 R>>]>>>>",
            stream(script.encode()),
        ),
        "form-in-xml.pdf": catalog("/AcroForm<</XFA 4 0 R/Fields[]>>", stream(form.encode())),
        "stream-in-another-file.pdf": pdf(
            [stream(b"", f"/F({folder}/canary.txt)".encode())], page=b"/Contents 4 0 R"
        ),
        "image-in-another-file.pdf": pdf(
            [stream(b"200 0 0 100 0 0 cm /X Do"), stream(b"", outside.encode())], page=draws
        ),
        "page-of-another.pdf": pdf([stream(b"/X Do"), stream(b"", other.encode())], page=draws),
        "at-a-host.pdf": pdf(
            [stream(b"", f"/F<</FS/URL/F({host}/canary.txt)>>".encode())], page=b"/Contents 4 0 R"
        ),
    }  # fmt: skip
