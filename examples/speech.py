"""Find the recordings in which somebody speaks, and make them ready for a speech model.

Run it:  weft run examples/speech.py --set source='recordings/**/*.wav' --set out=speech.lance
"""

import polars as pl

import weft
from weft.connectors import Files, Lance
from weft.operators import audio


@weft.pipeline
def speech(source: str = "recordings/**/*", out: str = "speech.lance", share: float = 0.2):
    """When they speak, how loud, and the log-mel that Whisper takes, of those that do."""
    rows = weft.read(Files(source))
    rows = rows.where(pl.col("size") > 0)
    rows = rows.apply(audio.Probe(), sample_rate="original_rate", channels="original_channels")
    rows = rows.apply(audio.Decode(sample_rate=16_000)).apply(audio.Channels(1))
    rows = rows.apply(audio.VoiceActivity())
    rows = rows.where(pl.col("speech_share") > share)
    rows = rows.apply(audio.Loudness())
    rows = rows.apply(audio.MelSpectrogram("whisper", seconds=30))
    return rows.select(
        "uri", "codec", "duration_seconds", "original_rate", "original_channels",
        "speech", "speech_share", "loudness_lufs", "true_peak_dbtp", "mel",
    ).write(Lance(out))  # fmt: skip
