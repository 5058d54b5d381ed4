"""Truth: FFmpeg's command line, libsndfile, slices of arrays, and the operators taken over."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from weft.connectors import Files, Memory
from weft.errors import DefinitionError, RowError
from weft.operators import containers
from weft.operators.audio import Channels, Decode, Loudness, Resample, Trim, frames
from weft.pipelines.fields import fields
from weft.pipelines.operator import Operator
from weft.pipelines.types import Encoded, Int32, Waveform

from .conftest import (
    FORMATS,
    LOSSLESS,
    LOSSY,
    RATE,
    encoded,
    ffmpeg,
    ffmpeg_decoded,
    ffmpeg_file,
    file_of,
    music,
    needs_ffmpeg,
)


def waveform(content: bytes, **params: object) -> np.ndarray:
    return Decode(**params)(content)["waveform"]  # type: ignore[arg-type]


@needs_ffmpeg
class TestFormats:
    @pytest.mark.parametrize("kind", LOSSLESS)
    def test_lossless(self, kind: str) -> None:
        decoded = Decode()(encoded(kind))
        assert decoded["sample_rate"] == RATE
        assert decoded["waveform"].dtype == np.float32
        assert np.array_equal(decoded["waveform"], music(3.0))

    @pytest.mark.parametrize("kind", FORMATS)
    def test_ffmpeg_decodes_the_same(self, kind: str) -> None:
        """FFmpeg's float decoders round differently from one version to the next."""
        ours, truth = waveform(encoded(kind)), ffmpeg_decoded(encoded(kind), 2)
        assert ours.shape == truth.shape
        assert np.abs(ours - truth).max() <= (1e-6 if kind in LOSSY else 0)

    @pytest.mark.parametrize("kind", ["mp3", "vorbis", "opus"])
    def test_encoder_delay_is_left_out(self, kind: str) -> None:
        ours, original = waveform(encoded(kind)), music(3.0)
        assert ours.shape == original.shape
        lags = np.correlate(ours[0, 48_000:49_000], original[0, 47_900:49_100], "full")
        assert np.argmax(lags) == len(lags) // 2

    @pytest.mark.parametrize("channels", [1, 2, 6, 8])
    @pytest.mark.parametrize("kind", ["wav", "flac"])
    def test_channels(self, kind: str, channels: int) -> None:
        ours = waveform(encoded(kind, 0.5, channels))
        assert np.array_equal(ours, ffmpeg_decoded(encoded(kind, 0.5, channels), channels))
        assert ours.shape == (channels, RATE // 2)

    def test_sound_of_a_video(self) -> None:
        video = ["-f", "lavfi", "-i", "testsrc=d=1:s=64x48:r=10"]
        container = ["-shortest", "-c:a", "flac", "-c:v", "mpeg4", "-f", "matroska", "-"]
        content = ffmpeg("-i", "-", *video, *container, stdin=file_of(music(1.0)))
        assert np.array_equal(waveform(content), music(1.0))


class TestSoundfile:
    @pytest.mark.parametrize(
        ("file_format", "subtype"),
        [
            ("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"),
            ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("AIFF", "PCM_S8"), ("AIFF", "PCM_24"),
            ("W64", "PCM_16"), ("FLAC", "PCM_S8"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("channels", [1, 2])
    def test_equal(self, file_format: str, subtype: str, channels: int) -> None:
        sound = np.random.default_rng(1).uniform(-1, 1, (channels, 5000)).astype(np.float32)
        content = file_of(sound, 44_100, file_format, subtype)
        truth, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
        decoded = Decode()(content)
        assert decoded["sample_rate"] == rate == 44_100
        assert np.array_equal(decoded["waveform"], truth.T)

    @pytest.mark.parametrize("rate", [8_000, 11_025, 96_000, 192_000])
    def test_rates(self, rate: int) -> None:
        decoded = Decode()(file_of(music(0.1, rate=rate), rate, "FLAC"))
        assert decoded["sample_rate"] == rate
        assert np.array_equal(decoded["waveform"], music(0.1, rate=rate))


@needs_ffmpeg
class TestRange:
    @pytest.mark.parametrize("kind", FORMATS)
    @given(start=st.floats(0, 6.5), length=st.floats(0.001, 2))
    @settings(max_examples=15, deadline=None)
    def test_is_a_slice(self, kind: str, start: float, length: float) -> None:
        content = encoded(kind, 6.0)
        whole, stop = waveform(content), start + length
        truth = whole[:, round(start * RATE) : round(stop * RATE)]
        assert np.array_equal(waveform(content, start=start, stop=stop), truth)
        assert np.array_equal(waveform(content, start=start), whole[:, round(start * RATE) :])

    @pytest.mark.parametrize("kind", FORMATS)
    def test_seeks_only_where_it_changes_nothing(self, kind: str) -> None:
        alone = {"wav", "aiff", "w64", "flac", "alac"}
        with containers.open_container(encoded(kind, 6.0), "test") as container:
            stream = containers.audio_stream(container, "test")
            sound = frames.decode(container, stream, "test", start=5.0, max_seconds=10)
        assert (sound.skipped > 4 * RATE) == (kind in alone)

    def test_after_the_end(self) -> None:
        for kind in ("wav", "flac", "alac", "mp3"):
            assert waveform(encoded(kind), start=1000, stop=1001).shape == (2, 0)

    def test_decoding_ends_at_stop(self) -> None:
        content = bytearray(encoded("flac", 6.0))
        content[-2000:-1000] = bytes(1000)
        assert np.array_equal(waveform(bytes(content), stop=1.0), music(6.0)[:, :RATE])
        with pytest.raises(RowError, match="damaged or cut short"):
            waveform(bytes(content))


steps = st.lists(
    st.one_of(
        st.builds(Channels, st.sampled_from([1, 2])),
        st.builds(Resample, st.sampled_from([8_000, 16_000, 44_100, 48_000])),
        st.builds(lambda a, b: Trim(a, a + b), st.floats(0, 2), st.floats(0.01, 2)),
        st.builds(Trim, st.floats(0, 3)),
    ),
    min_size=1,
    max_size=4,
)


class TestPushdown:
    @given(steps, st.sampled_from(["flac", "mp3", "opus"]), st.sampled_from([1, 2, 6]))
    @settings(max_examples=40, deadline=None)
    @needs_ffmpeg
    def test_same_samples(self, chain: list[Operator], kind: str, channels: int) -> None:
        content = encoded(kind, 3.0, channels)
        row, whole = Decode()(content), Decode()
        for operator in chain:
            out = operator(**{port: row[port] for port in operator.reads})
            row = row | (out if isinstance(out, dict) else {"waveform": out})
            absorbed = whole.absorb(operator, "waveform")
            assert isinstance(absorbed, Decode)
            whole = absorbed
        pushed = whole(content)
        assert pushed["sample_rate"] == row["sample_rate"]
        assert np.array_equal(pushed["waveform"], row["waveform"])

    def test_parameters_are_short_for_operators(self) -> None:
        content = file_of(music(3.0))
        ours = Decode(16_000, 1, 0.5, 2.0)(content)
        row = Decode(then=(Trim(0.5, 2.0), Channels(1), Resample(16_000)))(content)
        assert np.array_equal(ours["waveform"], row["waveform"])
        assert ours["waveform"].shape == (1, 24_000)

    def test_what_cannot_be_taken_over(self) -> None:
        assert Decode().absorb(Loudness(), "waveform") is None
        assert Decode().absorb(Channels(1), "sample_rate") is None

    def test_in_a_plan(self, tmp_path: Path) -> None:
        (tmp_path / "a.wav").write_bytes(file_of(music(1.0)))

        @weft.pipeline
        def sounds() -> object:
            rows = weft.read(Files(str(tmp_path / "*.wav")))
            return rows.apply(Decode(16_000)).apply(Channels(1)).write(Memory())

        shown = str(sounds().plan())
        assert "audio.Decode(sample_rate=16000, then=[audio.Channels])" in shown

    def test_types(self) -> None:
        given_type = fields(content=Encoded("audio"))
        assert Decode().infer(given_type) == fields(waveform=Waveform(), sample_rate=Int32())
        for decode in (
            Decode(16_000, 1),
            Decode(then=(Resample(16_000), Channels(1))),
            Decode(8_000, start=1)
            .absorb(Channels(1), "waveform")
            .absorb(Resample(16_000), "waveform"),
        ):
            inferred = decode.infer(given_type)
            assert inferred == fields(waveform=Waveform(16_000, 1), sample_rate=Int32())


class TestHostile:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", r"no video or audio in a known container .* Given 0 bytes"),
            (b"just text, named sound.wav", r"26 bytes that start with b'just text, n'"),
            (b"RIFF\x24\0\0\0WAVE", r"cut short: its header says 44 bytes; given 12"),
            (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n", "no video or audio in a known"),
        ],
    )
    def test_not_a_sound(self, content: bytes, message: str) -> None:
        with pytest.raises(RowError, match=message):
            Decode()(content)

    @needs_ffmpeg
    def test_a_video_without_sound(self) -> None:
        content = ffmpeg(
            "-f", "lavfi", "-i", "testsrc=d=1:s=64x48:r=10", "-c:v", "mpeg4", "-f", "matroska", "-"
        )
        with pytest.raises(RowError, match=r"no sound\. Given streams: video"):
            Decode()(content)

    def test_no_samples(self) -> None:
        with pytest.raises(RowError, match="no sound in it: nothing was decoded"):
            Decode()(file_of(np.zeros((1, 0), np.float32)))

    def test_too_long(self) -> None:
        content = file_of(music(3.0))
        message = r"audio\.Decode: the sound is too long: more than 2\.5 s were decoded"
        with pytest.raises(RowError, match=message):
            Decode(max_seconds=2.5)(content)
        assert waveform(content, max_seconds=2.5, stop=1.0).shape == (2, RATE)
        assert waveform(content, max_seconds=3).shape == (2, 3 * RATE)

    def test_the_limit_does_not_believe_the_header(self) -> None:
        """A FLAC that says it has one sample."""
        content = bytearray(file_of(music(3.0), file_format="FLAC"))
        content[21:26] = bytes([content[21] & 0xF0, 0, 0, 0, 1])
        with pytest.raises(RowError, match="too long"):
            Decode(max_seconds=1)(bytes(content))

    def test_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("weft.operators.audio.sound.MAX_VALUES", 100_000)
        with pytest.raises(RowError, match="too large: more than 100000 samples in 2 channels"):
            Decode()(file_of(music(3.0)))

    def test_too_many_channels(self) -> None:
        with pytest.raises(RowError, match="given 12 channels of s16 samples; expected at most 8"):
            Decode()(file_of(np.zeros((12, 100), np.float32)))

    @needs_ffmpeg
    def test_too_many_planes(self) -> None:
        """PyAV would read behind the list of them."""
        with pytest.raises(RowError, match="given 8 channels of fltp samples; expected at most 7"):
            Decode()(encoded("opus", 0.5, 8))

    @pytest.mark.parametrize("where", [0.2, 0.5, 0.8])
    def test_a_flac_is_checked(self, where: float) -> None:
        """One bit is wrong, in the middle of a frame."""
        content = bytearray(file_of(music(1.0), file_format="FLAC"))
        content[int(len(content) * where)] ^= 1
        with pytest.raises(RowError, match="damaged or cut short"):
            Decode()(bytes(content))

    def test_not_finite(self) -> None:
        sound = np.array([[0, np.nan, 0]], np.float32)
        with pytest.raises(RowError, match="not finite"):
            Decode()(file_of(sound, subtype="FLOAT"))

    @needs_ffmpeg
    def test_the_rate_changes(self) -> None:
        adts = [
            ffmpeg("-i", "-", "-ar", rate, "-f", "adts", "-", stdin=file_of(music(0.5)))
            for rate in ("48000", "24000")
        ]
        with pytest.raises(RowError, match=r"changes from \(48000, 2, 'fltp'\) to \(24000, 2, "):
            Decode()(b"".join(adts))

    @pytest.mark.parametrize("kind", ["wav", "aiff", "flac", "alac", "m4a"])
    @needs_ffmpeg
    def test_cut_short(self, kind: str) -> None:
        """A file that is cut anywhere is refused, unless all samples are there all the same."""
        content = encoded(kind)
        truth = waveform(content)
        cuts = [1, 10, 44, *random.Random(0).sample(range(len(content) - 1), 30)]
        refused = 0
        for cut in cuts:
            try:
                with_cut = waveform(content[:cut])
            except RowError:
                refused += 1
            else:
                assert np.array_equal(with_cut, truth), cut
        assert refused >= 30

    @needs_ffmpeg
    def test_an_mp4_that_starts_with_its_index_is_cut_short(self) -> None:
        content = ffmpeg_file(
            "-i", "-", "-movflags", "faststart", "-f", "ipod", stdin=file_of(music(3.0))
        )
        assert content.index(b"moov") < content.index(b"mdat")
        for part in (0.3, 0.6, 0.9):
            with pytest.raises(RowError, match="cut short"):
                Decode()(content[: int(len(content) * part)])

    def test_a_wav_of_unknown_length(self) -> None:
        """As a program writes it to a pipe: FFmpeg gives the sizes 2**32 - 1, others 0."""
        content = bytearray(file_of(music(1.0)))
        for size in (0xFFFFFFFF, 0):
            struct.pack_into("<I", content, 4, size)
            struct.pack_into("<I", content, 40, size)
            assert waveform(bytes(content)).shape == (2, RATE)

    @pytest.mark.parametrize("kind", FORMATS)
    @needs_ffmpeg
    def test_damaged_bytes(self, kind: str) -> None:
        """Anything may come out, but a waveform or a RowError."""
        content, chance = encoded(kind, 0.5), random.Random(kind)
        refused = 0
        for _ in range(60):
            damaged = bytearray(content)
            for _ in range(chance.choice([1, 5, 50])):
                where = chance.randrange(min(len(content), chance.choice([200, 10**7])))
                damaged[where] = chance.randrange(256)
            try:
                decoded = Decode(16_000, max_seconds=5, start=chance.choice([0, 0.2]))(damaged)
            except RowError:
                refused += 1
            else:
                assert np.isfinite(decoded["waveform"]).all()
        assert refused > 0


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"sample_rate": 0}, r"audio\.Decode: sample_rate=0: expected a whole number of Hz"),
        ({"sample_rate": 16e3}, r"sample_rate=16000\.0: expected a whole number"),
        ({"channels": 3}, r"channels=3: expected 1, 2 or None"),
        ({"start": -1}, r"start=-1, stop=None: expected seconds, 0 <= start < stop"),
        ({"start": 2, "stop": 2}, r"start=2, stop=2: expected seconds"),
        ({"stop": float("nan")}, r"stop=nan: expected seconds"),
        ({"max_seconds": 0}, r"max_seconds=0: expected a positive number"),
        ({"then": (Loudness(),)}, r"then holds Loudness\(\); expected Trim, Channels and"),
    ],
)
def test_wrong_parameters(params: dict[str, object], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Decode(**params)  # type: ignore[arg-type]
