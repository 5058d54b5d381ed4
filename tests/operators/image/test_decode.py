"""Truth: Pillow's full decode with ImageOps.exif_transpose, OpenCV, and formulas in NumPy."""

from __future__ import annotations

import io
import random
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage
from PIL import ImageFile, ImageOps

from weft.errors import DefinitionError, RowError
from weft.operators.image import Crop, Decode, Resize, Sharpness, scaled
from weft.pipelines.fields import fields
from weft.pipelines.types import Encoded, Image

from .conftest import PHOTOGRAPHS

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"]


def pillow(file: bytes) -> PilImage.Image:
    return ImageOps.exif_transpose(PilImage.open(io.BytesIO(file))).convert("RGB")


def difference(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())


def oriented(orientation: int) -> PilImage.Exif:
    exif = PilImage.Exif()
    exif[0x0112] = orientation
    return exif


class TestFormats:
    @pytest.mark.parametrize("file_format", FORMATS)
    def test_all(self, photo: object, encoded: object, file_format: str) -> None:
        file = encoded(photo("coffee"), file_format)
        assert np.array_equal(Decode()(file), np.asarray(pillow(file)))

    @pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP"])
    def test_lossless(self, photo: object, encoded: object, file_format: str) -> None:
        image = photo("chelsea")
        assert np.array_equal(Decode()(encoded(image, file_format)), np.asarray(image))

    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
    def test_opencv_reads_the_same(self, photo: object, encoded: object, file_format: str) -> None:
        file = encoded(photo("astronaut"), file_format, quality=95)
        truth = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert difference(Decode()(file), truth) < 0.6

    @pytest.mark.parametrize("file_format", ["GIF", "WEBP", "TIFF", "PNG", "AVIF", "MPO"])
    def test_first_frame(self, encoded: object, file_format: str) -> None:
        frames = [PilImage.new("RGB", (32, 32), colour) for colour in ("red", "lime", "blue")]
        file = encoded(frames[0], file_format, save_all=True, append_images=frames[1:])
        assert np.abs(Decode()(file)[16, 16].astype(int) - (255, 0, 0)).max() <= 2

    def test_mpo_is_scaled_as_a_jpeg(self, photo: object, encoded: object) -> None:
        image = photo("retina")
        file = encoded(image, "MPO", save_all=True, append_images=[image])
        assert difference(Decode(100)(file), Decode(100, exact=True)(file)) <= 0.5
        assert not np.array_equal(Decode(100)(file), Decode(100, exact=True)(file))

    def test_the_name_does_not_matter(self, photo: object, encoded: object) -> None:
        file = io.BytesIO(encoded(photo("coffee"), "PNG"))
        file.name = "photo.jpg"
        assert Decode()(file.getvalue()).shape == (400, 600, 3)


class TestPixels:
    @pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
    def test_mode_and_type(self, photo: object, encoded: object, mode: str, channels: int) -> None:
        image = photo("coffee")
        ours = Decode(mode=mode)(encoded(image, "PNG"))
        assert np.array_equal(
            ours.reshape(400, 600, -1), np.asarray(image.convert(mode)).reshape(400, 600, -1)
        )
        assert ours.shape == (400, 600, channels)
        inferred = Decode(mode=mode).infer(fields(content=Encoded("image")))
        assert inferred == fields(image=Image(channels=channels))

    def test_grey_of_a_jpeg_is_its_luma(self, photo: object, encoded: object) -> None:
        """OpenCV asks libjpeg for the same plane; that of RGB differs by rounding only."""
        file = encoded(photo("coffee"), "JPEG")
        truth = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_GRAYSCALE)[:, :, None]
        assert np.abs(Decode(mode="L")(file).astype(int) - truth).max() <= 1
        rgb = np.asarray(pillow(file).convert("L"))[:, :, None]
        assert difference(Decode(mode="L")(file), rgb) < 0.6

    @pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
    def test_sixteen_bits_are_scaled(self, encoded: object, file_format: str) -> None:
        values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        file = encoded(PilImage.fromarray(values), file_format)
        truth = np.floor(values * (255 / 65535) + 0.5).astype(np.uint8)
        for mode, channels in (("L", 1), ("RGB", 3)):
            assert np.array_equal(
                Decode(mode=mode)(file), np.repeat(truth[:, :, None], channels, axis=2)
            )

    def test_sixteen_bits_big_endian(self, encoded: object) -> None:
        values = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
        image = PilImage.frombytes("I;16B", (64, 64), values.astype(">u2").tobytes())
        truth = np.floor(values * (255 / 65535) + 0.5).astype(np.uint8)
        assert np.array_equal(Decode(mode="L")(encoded(image, "TIFF"))[:, :, 0], truth)

    def test_sixteen_bits_of_which_white_is_zero(self, encoded: object) -> None:
        values = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
        file = encoded(PilImage.fromarray(values), "TIFF")
        photometric = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
        assert file.count(photometric) == 1
        inverted = file.replace(photometric, struct.pack("<HHIHH", 262, 3, 1, 0, 0))
        assert np.array_equal(Decode(mode="L")(inverted), 255 - Decode(mode="L")(file))

    def test_twelve_bits_reach_white(self) -> None:
        """A TIFF of two pixels, 0 and 4095, in 3 bytes."""
        tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1)]
        tags.append((279, 3))
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        header = b"II*\0" + struct.pack("<I", 12) + b"\x00\x0f\xff\x00"
        file = header + struct.pack("<H", len(tags)) + entries + bytes(4)
        assert Decode(mode="L")(file).tolist() == [[[0], [255]]]

    def test_sixteen_bit_colour_is_within_one_level(self) -> None:
        values = np.random.default_rng(0).integers(0, 65536, (40, 50, 3), np.uint16)
        ok, file = cv2.imencode(".png", values[:, :, ::-1])
        assert ok
        assert np.abs(Decode()(file.tobytes()) - values * (255 / 65535)).max() <= 1

    @pytest.mark.parametrize("mode", ["I", "F"])
    def test_thirty_two_bits_have_no_white(self, encoded: object, mode: str) -> None:
        message = rf"image\.Decode: given pixels of 32 bits \(Pillow's mode '{mode}'\).* Scale"
        with pytest.raises(RowError, match=message):
            Decode()(encoded(PilImage.new(mode, (4, 4)), "TIFF"))

    def test_cmyk(self, photo: object, encoded: object) -> None:
        """What is written is inverted, as Adobe does; (255 - ink)(255 - black) is what it means."""
        image = photo("coffee").convert("CMYK")
        file = encoded(image, "JPEG", quality=95)
        assert b"Adobe" in file
        ink = np.asarray(image).astype(float)
        truth = (255 - ink[:, :, :3]) * (255 - ink[:, :, 3:]) / 255
        assert difference(Decode()(file), truth) < 3
        assert difference(Decode(60)(file), Decode(60, exact=True)(file)) <= 0.5

    def test_one_bit(self, encoded: object) -> None:
        bits = np.random.default_rng(0).integers(0, 2, (30, 50)).astype(bool)
        file = encoded(PilImage.fromarray(bits), "PNG")
        assert np.array_equal(Decode(mode="L")(file)[:, :, 0], bits * 255)

    def test_palette(self, photo: object, encoded: object) -> None:
        image = photo("coffee").quantize(64)
        truth = np.asarray(image.getpalette()).reshape(-1, 3)[np.asarray(image)]
        assert np.array_equal(Decode()(encoded(image, "PNG")), truth)

    def test_palette_with_a_transparent_colour(self, encoded: object) -> None:
        image = PilImage.new("P", (2, 1))
        image.putpalette([255, 0, 0, 0, 0, 255])
        image.putpixel((1, 0), 1)
        file = encoded(image, "PNG", transparency=0)
        assert Decode()(file).tolist() == [[[255, 255, 255], [0, 0, 255]]]
        assert Decode(mode="RGBA")(file).tolist() == [[[255, 0, 0, 0], [0, 0, 255, 255]]]

    def test_sixteen_bits_with_a_transparent_grey(self, encoded: object) -> None:
        file = encoded(PilImage.fromarray(np.array([[0, 257 * 7]], np.uint16)), "PNG")
        body = b"tRNS" + struct.pack(">H", 257 * 7)
        chunk = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
        at = file.index(b"IDAT") - 4
        file = file[:at] + chunk + file[at:]
        assert Decode(mode="RGBA")(file).tolist() == [[[0, 0, 0, 255], [7, 7, 7, 0]]]
        assert Decode(mode="L")(file).tolist() == [[[0], [255]]]

    @pytest.mark.parametrize("mode", ["LA", "RGBA"])
    def test_alpha_is_put_on_white(self, photo: object, encoded: object, mode: str) -> None:
        image = photo("coffee").convert(mode)
        image.putalpha(photo("chelsea").resize(image.size).convert("L"))
        file = encoded(image, "PNG")
        rgba = np.asarray(image.convert("RGBA"))
        alpha = rgba[:, :, 3:] / 255
        truth = rgba[:, :, :3] * alpha + 255 * (1 - alpha)
        assert np.abs(Decode()(file) - truth).max() <= 1
        assert np.array_equal(Decode(mode="RGBA")(file), rgba)


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
    def test_upright(
        self, photo: object, encoded: object, file_format: str, orientation: int
    ) -> None:
        image = photo("rocket").crop((0, 0, 301, 202))
        file = encoded(image, file_format, exif=oriented(orientation))
        assert np.array_equal(Decode()(file), np.asarray(pillow(file)))

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize(
        "chain",
        [
            (Resize(90),),
            (Resize((60, 90), "cover"),),
            (Resize((90, 60), "fill"),),
            (Crop(box=(30, 500, 700, 450)), Resize((80, 70), "cover")),
            (Crop((801, 613)), Resize(60, "cover"), Crop(50)),
        ],
    )
    def test_scaled_and_upright(
        self, photo: object, encoded: object, orientation: int, chain: tuple[object, ...]
    ) -> None:
        """Odd sizes: the last column of a scaled JPEG is then only partly inside the image."""
        image = photo("noisy").crop((0, 0, 1003, 997))
        file = encoded(image, "JPEG", quality=90, exif=oriented(orientation))
        ours, truth = Decode(then=chain)(file), np.asarray(pillow(file))
        for operator in chain:
            truth = operator(truth)
        assert difference(ours, truth) <= 0.5
        assert not np.array_equal(ours, truth)  # else nothing was scaled


class TestScaledDecode:
    @pytest.mark.parametrize("name", [*PHOTOGRAPHS, "noisy"])
    @pytest.mark.parametrize("quality", [75, 90])
    def test_bound(self, photo: object, encoded: object, name: str, quality: int) -> None:
        image = photo(name)
        file = encoded(image, "JPEG", quality=quality)
        full = Decode()(file)
        bound = 0.75 if name == "page" else 0.5  # small print is no photograph
        for ratio in (2, 3, 4, 4.8, 5.9, 6, 7.3, 9, 12):
            height, width = int(image.height / ratio), int(image.width / ratio)
            for resize in (
                Resize((height, width)),
                Resize(min(height, width), "cover"),
                Resize((height, width), "fill"),
                Resize(min(height, width), "fill"),
            ):
                ours, truth = Decode(then=(resize,))(file), resize(full)
                assert difference(ours, truth) <= bound, (ratio, resize)
                assert np.abs(ours.astype(int) - truth).max() < 16, (ratio, resize)

    def test_white_noise(self, encoded: object) -> None:
        """No camera takes it: the worst there is."""
        noise = np.random.default_rng(0).integers(0, 256, (900, 900, 1), np.uint8)
        file = encoded(PilImage.fromarray(np.repeat(noise, 3, axis=2)), "JPEG", quality=95)
        found = [difference(Decode(s)(file), Decode(s, exact=True)(file)) for s in (152, 85, 35)]
        assert 0.5 < max(found) <= 1.5

    @pytest.mark.parametrize(
        ("size", "scale"),
        [
            ((640, 960), 1),
            ((224, 224), 2),
            ((149, 224), 2),
            ((80, 120), 4),
            ((35, 53), 8),
        ],
    )
    def test_scale(
        self,
        photo: object,
        encoded: object,
        monkeypatch: pytest.MonkeyPatch,
        size: tuple[int, int],
        scale: int,
    ) -> None:
        """What libjpeg decodes of 1920x1280."""
        seen = []
        to_mode = scaled.pixels.to_mode

        def watch(image: PilImage.Image, mode: str, what: str) -> PilImage.Image:
            seen.append(image.size)
            return to_mode(image, mode, what)

        monkeypatch.setattr(scaled.pixels, "to_mode", watch)
        Decode(size, "fill")(encoded(photo("noisy"), "JPEG"))
        assert seen == [(1920 // scale, 1280 // scale)]

    @settings(max_examples=150, deadline=None)
    @given(*[st.integers(1, 4000)] * 2, st.integers(1, 500), st.integers(1, 500))
    def test_at_least_twice_the_size(self, width: int, height: int, across: int, down: int) -> None:
        step = Resize((down, across), "fill").step(width, height)
        scale = scaled._scale(step)
        if scale > 1:
            assert min(width / scale / across, height / scale / down) >= 2

    def test_exact_is_exact(self, photo: object, encoded: object) -> None:
        file = encoded(photo("noisy"), "JPEG")
        full = Decode()(file)
        for chain in ((Resize(224),), (Crop(700), Resize(100, "fill"))):
            truth = full
            for operator in chain:
                truth = operator(truth)
            assert np.array_equal(Decode(exact=True, then=chain)(file), truth)

    def test_grey_and_progressive(self, photo: object, encoded: object) -> None:
        for options in ({"progressive": True}, {"subsampling": 0}, {}):
            image = photo("noisy").convert("RGB" if options else "L")
            file = encoded(image, "JPEG", **options)
            for mode in ("L", "RGB", "RGBA"):
                ours, truth = Decode(200, mode=mode)(file), Decode(200, mode=mode, exact=True)(file)
                assert difference(ours, truth) <= 0.5


sizes = st.one_of(st.integers(1, 60), st.tuples(st.integers(1, 60), st.integers(1, 60)))
geometric = st.one_of(
    st.builds(Resize, sizes, st.sampled_from(["contain", "cover", "fill"])),
    st.builds(Crop, sizes),
    st.builds(lambda *box: Crop(box=box), *[st.integers(0, 20)] * 2, *[st.integers(1, 40)] * 2),
)


class TestAbsorb:
    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(geometric, max_size=3),
        st.integers(1, 90),
        st.integers(1, 90),
        st.sampled_from(["L", "RGB", "RGBA"]),
        st.sampled_from(["PNG", "TIFF", "BMP"]),
    )
    def test_means_the_same(
        self,
        chain: list[Resize | Crop],
        width: int,
        height: int,
        mode: str,
        file_format: str,
    ) -> None:
        pixels = np.random.default_rng(width * 91 + height).integers(0, 256, (height, width, 3))
        file = io.BytesIO()
        PilImage.fromarray(pixels.astype(np.uint8)).save(file, file_format)
        content = file.getvalue()
        absorbed = Decode(mode=mode)
        for operator in chain:
            absorbed = absorbed.absorb(operator, "image")
        outcomes = []
        for operators in ([absorbed], [Decode(mode=mode), *chain]):
            value = content
            try:
                for operator in operators:
                    value = operator(value)
            except RowError as error:
                value = str(error)
            outcomes.append(value)
        assert type(outcomes[0]) is type(outcomes[1])
        assert np.array_equal(*outcomes)

    def test_size_is_a_resize(self, photo: object, encoded: object) -> None:
        file = encoded(photo("coffee"), "PNG")
        for fit in ("contain", "cover", "fill"):
            for size in (50, (30, 60)):
                truth = Resize(size, fit)(Decode()(file))
                assert np.array_equal(Decode(size, fit)(file), truth)
                assert np.array_equal(Decode().absorb(Resize(size, fit), "image")(file), truth)

    def test_only_geometry(self) -> None:
        assert Decode().absorb(Sharpness(), "image") is None
        once = Decode(300).absorb(Resize(256), "image")
        assert once.absorb(Crop(224), "image") == Decode(300, then=(Resize(256), Crop(224)))
        assert str(once) == "image.Decode(size=300, then=[image.Resize(size=256)])"

    @pytest.mark.parametrize(
        ("decode", "inferred"),
        [
            (Decode(), Image()),
            (Decode(10), Image()),
            (Decode(10, "cover"), Image(10, 10)),
            (Decode((10, 20), "fill", mode="L"), Image(10, 20, 1)),
            (Decode(then=(Resize(256), Crop(224))), Image(224, 224)),
            (Decode(20, "fill", then=(Resize(10),)), Image(10, 10)),
        ],
    )
    def test_types(self, decode: Decode, inferred: Image) -> None:
        assert decode.infer(fields(content=Encoded("image"))) == fields(image=inferred)


def bomb(width: int, height: int) -> bytes:
    """A valid PNG of one bit a pixel, all black."""
    file = io.BytesIO()
    PilImage.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


class TestHostile:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", r"^image\.Decode: not an image in a known format\. Given 0 bytes; expected JPEG"),
            (b"just text, named photo.jpg", r"26 bytes that start with b'just text, named'; exp"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n", r"start with b'%!PS-Adobe-3\.0 E'; expected JPEG, PNG"),
            (b"P6 1 1 255\n\0\0\0", r"expected JPEG, PNG, WEBP, GIF, TIFF, BMP, AVIF\."),
            (b"\x89PNG\r\n\x1a\n", r"header is damaged or cut short .* start like PNG"),
        ],
    )
    def test_not_an_image(self, content: bytes, message: str) -> None:
        with pytest.raises(RowError, match=message):
            Decode()(content)

    def test_bomb(self) -> None:
        content = bomb(12_000, 12_000)
        assert len(content) < 30_000
        message = r"too large\. Given 12000x12000 = 144000000 pixels; expected at most 89478485\."
        with pytest.raises(RowError, match=message):
            Decode()(content)
        with pytest.raises(RowError, match="too large"):
            Decode(224)(bomb(20_000, 20_000))  # Pillow itself raises from here on

    def test_the_limit_can_be_raised(self) -> None:
        decode = Decode((12, 12), "fill", mode="L", max_pixels=200_000_000)
        assert decode(bomb(12_000, 12_000)).shape == (12, 12, 1)
        with pytest.raises(RowError, match="Given 10x10 = 100 pixels; expected at most 99"):
            Decode(max_pixels=99)(bomb(10, 10))
        assert Decode(max_pixels=100)(bomb(10, 10)).shape == (10, 10, 3)

    def test_too_many_frames(self, encoded: object) -> None:
        frames = [PilImage.new("L", (4, 4), i) for i in range(5)]
        file = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
        assert Decode(max_frames=5)(file).shape == (4, 4, 3)
        with pytest.raises(RowError, match=r"too many frames\. Given 5; expected at most 4"):
            Decode(max_frames=4)(file)

    @pytest.mark.parametrize("size", [None, 20])
    @pytest.mark.parametrize("file_format", FORMATS)
    def test_cut_short(
        self, photo: object, encoded: object, file_format: str, size: int | None
    ) -> None:
        """A file that is cut anywhere is refused, unless all pixels are there all the same."""
        file = encoded(photo("chelsea").resize((120, 90)), file_format)
        truth = Decode(size)(file)
        cuts = [1, 10, len(file) - 1, *random.Random(0).sample(range(len(file)), 40)]
        refused = 0
        for cut in cuts:
            try:
                with_cut = Decode(size)(file[:cut])
            except RowError:
                refused += 1
            else:
                assert np.array_equal(with_cut, truth), cut
                assert cut > 0.9 * len(file)
        assert refused >= 38

    def test_a_png_of_one_bit_that_is_cut_short(self) -> None:
        """Pillow alone decodes it without a word."""
        with pytest.raises(RowError, match="cut short"):
            Decode()(bomb(300, 300)[:-14])

    @pytest.mark.filterwarnings("ignore")  # Pillow's, on metadata that makes no sense
    @pytest.mark.parametrize("file_format", FORMATS)
    def test_damaged_bytes(self, photo: object, encoded: object, file_format: str) -> None:
        """Anything may come out, but an image or a RowError."""
        file = encoded(photo("chelsea").resize((60, 45)), file_format)
        chance = random.Random(file_format)
        refused = 0
        for _ in range(150):
            damaged = bytearray(file)
            for _ in range(chance.choice([1, 3, 20])):
                damaged[chance.randrange(min(len(file), chance.choice([60, 10**6])))] = (
                    chance.randrange(256)
                )
            try:
                image = Decode(20, max_pixels=10**6)(bytes(damaged))
            except RowError:
                refused += 1
            else:
                assert image.dtype == np.uint8
                assert max(image.shape[:2]) <= 20
        assert refused > 0

    def test_nothing_of_the_process_is_changed(self) -> None:
        before = (ImageFile.LOAD_TRUNCATED_IMAGES, PilImage.MAX_IMAGE_PIXELS)
        Decode(max_pixels=10**9)(bomb(10, 10))
        assert before == (ImageFile.LOAD_TRUNCATED_IMAGES, PilImage.MAX_IMAGE_PIXELS)
        assert before == (False, 89_478_485)


@pytest.mark.parametrize(
    ("given_params", "message"),
    [
        ({"size": 0}, r"image\.Decode: size=0: expected a positive number"),
        ({"fit": "crop"}, r"fit='crop': expected 'contain', 'cover' or 'fill'"),
        ({"mode": "CMYK"}, r"mode='CMYK': expected one of L, RGB, RGBA"),
        ({"max_pixels": 0}, r"max_pixels=0: expected at least 1"),
        ({"max_frames": 0}, r"max_frames=0: expected at least 1"),
        ({"then": (Sharpness(),)}, r"then holds Sharpness\(\); expected Resize and Crop only"),
    ],
)
def test_wrong_parameters(given_params: dict[str, object], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Decode(**given_params)  # type: ignore[arg-type]
