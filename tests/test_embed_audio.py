"""Audio files are read as a model wants them, and refused with a reason where they cannot be."""

import hashlib
import io
import os
import struct
import subprocess
import sys
import textwrap

import librosa
import numpy as np
import pytest
import soundfile

from biasaudio.embed import audio as audio_module
from biasaudio.embed.audio import MAX_BYTES, MAX_SECONDS, read_audio
from biasaudio.errors import DataError, ParameterError

RATE = 44100


def tone(rate=RATE, seconds=1.0, hertz=440.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def encoded(samples, rate=RATE, kind="WAV", subtype=None, **options):
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=kind, subtype=subtype, **options)
    return stream.getvalue()


def wav(n_bytes, sound=b"\0\1" * 4000, *, rate=8000, channels=1, bits=16, tag=1):
    """Return a wav file whose header may say anything."""
    step = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * step % 2**32, step, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", n_bytes)
    return b"RIFF" + struct.pack("<I", 36 + len(sound)) + body + sound


@pytest.fixture
def write(tmp_path):
    def write(content, name="a.wav"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_a_tone_keeps_its_frequency_and_level(write, kind, rate):
    audio = read_audio(write(encoded(tone(), kind=kind)), rate)
    assert audio.waveform.dtype == np.float32
    assert audio.waveform.shape == (rate,)
    assert audio.seconds == 1.0
    middle = audio.waveform[rate // 4 : -rate // 4].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(middle.size)))
    assert spectrum.argmax() * rate / middle.size == pytest.approx(440, abs=2)
    assert np.sqrt(2 * np.square(middle).mean()) == pytest.approx(0.5, rel=0.02)


def test_channels_are_averaged_and_silence_and_loud_parts_stay(write):
    both = np.stack([tone(), 0.5 * tone(hertz=880)], axis=1)
    audio = read_audio(write(encoded(both, subtype="FLOAT")), RATE)
    np.testing.assert_allclose(audio.waveform, both.mean(axis=1), atol=1e-7)
    assert not read_audio(write(encoded(np.zeros(RATE))), 16000).waveform.any()
    loud = read_audio(write(encoded(4 * tone(), subtype="FLOAT")), RATE).waveform
    np.testing.assert_allclose(loud, 4 * tone(), atol=1e-6)


def test_the_way_of_storing_does_not_change_the_numbers(write, rng):
    whole = rng.integers(-30000, 30000, 5000)
    samples = whole / 2**15
    wanted = samples.astype(np.float32)
    read = {}
    for kind, subtype in [
        *(("WAV", each) for each in ("PCM_16", "PCM_24", "FLOAT", "DOUBLE")),
        *(("FLAC", "PCM_16"), ("AIFF", "PCM_16"), ("RF64", "PCM_16")),
    ]:
        content = encoded(samples, kind=kind, subtype=subtype)
        read[kind, subtype] = read_audio(write(content), RATE)
        np.testing.assert_array_equal(read[kind, subtype].waveform, wanted)
        assert read[kind, subtype].sha256 == hashlib.sha256(content).hexdigest()
    assert len({each.sha256 for each in read.values()}) == len(read)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
def test_blocks_are_resampled_as_librosa_resamples_the_whole(write, rng, rate):
    samples = rng.uniform(-0.5, 0.5, 150_001).astype(np.float32)
    got = read_audio(write(encoded(samples, subtype="FLOAT")), rate).waveform
    wanted = librosa.resample(samples, orig_sr=RATE, target_sr=rate, res_type="soxr_hq")
    assert got.shape == wanted.shape
    # The last sample or two may be padding.
    np.testing.assert_allclose(got[:-2], wanted[: got.size - 2], atol=1e-6)


@pytest.mark.parametrize("kind", ["OGG", "MP3"])
def test_blocks_are_decoded_as_the_whole(write, rng, kind):
    path = write(encoded(rng.uniform(-0.5, 0.5, (150_001, 2)), kind=kind))
    whole, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(read_audio(path, RATE).waveform, whole.mean(axis=1))


def test_no_more_than_max_seconds_is_read(write):
    path = write(encoded(tone(seconds=3), subtype="FLOAT"))
    part = read_audio(path, RATE, max_seconds=1.5)
    assert part.seconds == 1.5
    whole = read_audio(path, RATE)
    np.testing.assert_array_equal(part.waveform, whole.waveform[: 3 * RATE // 2])
    assert part.sha256 == whole.sha256
    assert read_audio(path, RATE, max_seconds=10).seconds == 3
    # What is left of a file without a length is no sign of damage then.
    mp3 = encoded(tone(seconds=5), kind="MP3", bitrate_mode="CONSTANT", compression_level=0.5)
    assert read_audio(write(mp3[mp3.index(mp3[:2], 4) :]), RATE, max_seconds=2).seconds == 2


def test_one_sample_is_enough(write):
    assert read_audio(write(encoded(np.ones(1))), 16000).waveform.shape == (1,)


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        *(("WAV", "PCM_16"), ("WAV", "IMA_ADPCM"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16")),
        *(("AIFF", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")),
    ],
)
def test_a_file_that_is_cut_off_is_no_shorter_clip(write, rng, kind, subtype):
    content = encoded(rng.uniform(-0.5, 0.5, (2 * RATE, 2)), kind=kind, subtype=subtype)
    assert read_audio(write(content), 16000).seconds > 1.9
    # The last frame of an mp3 file may be short.
    ends = [10, 50, 200, *np.linspace(400, len(content) * 0.95, 12).astype(int)]
    ends += [] if kind == "MP3" else [len(content) - 5, len(content) - 1]
    for end in ends:
        with pytest.raises(DataError, match=r"cut off|cannot be decoded|not audio") as caught:
            read_audio(write(content[:end]), 16000)
        assert "\n" not in str(caught.value)


def test_what_is_missing_of_a_cut_file_is_told(write):
    with pytest.raises(DataError, match=r"a\.wav' is cut off: 4000 bytes of sound are not there"):
        read_audio(write(wav(12_000)), 8000)
    # Some programs write this where they do not know the end.
    assert read_audio(write(wav(2**32 - 1)), 8000).waveform.size == 4000
    # A chunk of odd length is followed by a byte that does not count.
    odd = wav(12_000).replace(b"data", b"LIST\3\0\0\0abc\0data")
    with pytest.raises(DataError, match="4000 bytes of sound are not there"):
        read_audio(write(odd), 8000)
    ogg = encoded(tone(seconds=3), kind="OGG")
    for end in (len(ogg) - 100, ogg.rindex(b"OggS")):
        with pytest.raises(DataError, match="cut off: its last page is not there; get it again"):
            read_audio(write(ogg[:end]), 8000)
    mp3 = encoded(tone(seconds=4), kind="MP3")
    with pytest.raises(DataError, match=r"cut off: 2.* s of the 176400 samples that its header"):
        read_audio(write(mp3[: len(mp3) // 2]), 8000)


def test_an_mp3_file_that_does_not_tell_its_length(write, rng):
    samples = np.r_[rng.uniform(-0.5, 0.5, 20 * RATE), np.zeros(20 * RATE)]
    for mode in ("CONSTANT", "VARIABLE"):
        content = encoded(samples, kind="MP3", bitrate_mode=mode, compression_level=0.5)
        assert read_audio(write(content), RATE).seconds == 40
        bare = content[content.index(content[:2], 4) :]
        tagged = b"ID3\4\0\0" + bytes([0, 0, 8, 0]) + b"Xing".ljust(1024, b"\0") + bare
        for each in (bare, tagged):
            if mode == "CONSTANT":
                assert read_audio(write(each), RATE).seconds == pytest.approx(40, abs=0.1)
            else:
                with pytest.raises(DataError, match=r"length \(no Xing header\), and \d+ bytes"):
                    read_audio(write(each), RATE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"has 0 bytes; give a file of 1 to 2147483648"),
        (b"<html>", r"starts with b'<html>', so it is not audio .* give one of \.aif \.aiff"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "so it is not audio that can be read"),
        (wav(8000, rate=1), "has a sample rate of 1 Hz and 1 channel.*4000 to 384000 Hz"),
        (wav(8000, rate=2**32 - 1), "cannot be decoded"),
        (wav(8000, rate=2**31 - 1), r"has a sample rate of \d+ Hz|cannot be decoded"),
        (wav(8000, rate=0), "cannot be decoded"),
        (wav(8000, channels=0), "cannot be decoded"),
        (wav(8000, channels=255), r"8000 Hz and 255 channel\(s\); .* at most 64 channels"),
        (wav(8000, channels=2**12), "cannot be decoded|channel"),
        (wav(0, b""), "has no samples; leave it out"),
        (wav(2**32 - 2), "is cut off: 4294959294 bytes of sound are not there"),
        (wav(8000, np.array([0, np.nan] * 1000, "<f4").tobytes(), bits=32, tag=3), "NaN or Inf"),
        (wav(8000, np.full(2000, 3e38, "<f4").tobytes(), bits=32, tag=3, channels=2), "NaN or Inf"),
        (b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 20_000, "has over 10000 chunks before its sound"),
    ],
)
def test_hostile_headers_are_named(write, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read_audio(write(content), 16000)
    assert "\n" not in str(caught.value)


def test_a_flac_header_that_promises_hours_allocates_nothing(write):
    content = bytearray(encoded(tone(seconds=0.1), kind="FLAC"))
    # The low 36 bits of bytes 18 to 25 are the number of samples.
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    with pytest.raises(DataError, match=f"has 1558265 s by its header: at most {MAX_SECONDS} s"):
        read_audio(write(bytes(content)), 16000)
    with pytest.raises(DataError, match=r"cannot be decoded|is cut off"):
        read_audio(write(bytes(content)), 16000, max_seconds=60)


def test_a_flac_file_that_does_not_tell_its_length(write, monkeypatch):
    content = bytearray(encoded(tone(), kind="FLAC"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path = write(bytes(content))
    np.testing.assert_allclose(read_audio(path, RATE).waveform, tone(), atol=1e-4)
    assert read_audio(path, RATE, max_seconds=0.5).seconds == 0.5
    assert read_audio(path, RATE, max_seconds=2).seconds == 1
    monkeypatch.setattr(audio_module, "MAX_SAMPLES", RATE // 2)
    with pytest.raises(DataError, match="has more than it may have: at most 3600 s and 22050 sam"):
        read_audio(path, RATE)


def test_limits_of_length_hold_for_honest_files(write, monkeypatch):
    path = write(encoded(np.zeros((3 * RATE, 2))))
    monkeypatch.setattr(audio_module, "MAX_SECONDS", 2)
    with pytest.raises(
        DataError, match=r"has 3 s by its header: at most 2 s and .* into clips, or"
    ):
        read_audio(path, 16000)
    monkeypatch.setattr(audio_module, "MAX_SAMPLES", 2 * RATE)
    with pytest.raises(DataError, match=r"at most 2 s and 88200 samples in all of its 2 channel"):
        read_audio(path, 16000, max_seconds=2)
    assert read_audio(path, 16000, max_seconds=1).seconds == 1


def test_only_regular_files_that_may_be_read_are_opened(tmp_path, monkeypatch, write):
    with pytest.raises(DataError, match=r"none\.wav' is not there; check the path"):
        read_audio(tmp_path / "none.wav", 16000)
    with pytest.raises(DataError, match="is not a regular file; give an audio file"):
        read_audio(tmp_path, 16000)
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", "/dev/zero"):
        with pytest.raises(DataError, match="is not a regular file"):
            read_audio(path, 16000)
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    for path in (tmp_path / "loop.wav", tmp_path / ("a" * 300), "a\0b.wav"):
        with pytest.raises(DataError, match=r"cannot be read \(.*\); copy it again"):
            read_audio(path, 16000)
    sparse = write(b"RIFF")
    os.truncate(sparse, MAX_BYTES + 1)
    with pytest.raises(DataError, match="has 2147483649 bytes; give a file of 1 to 2147483648"):
        read_audio(sparse, 16000)

    def refuse(_path):
        raise PermissionError

    monkeypatch.setattr(io, "FileIO", refuse)
    with pytest.raises(DataError, match="may not be read by you; change its permissions"):
        read_audio(write(encoded(tone())), 16000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_rate": 0}, "sample_rate=0 is not allowed"),
        ({"sample_rate": 10**9}, "sample_rate=1000000000 is not allowed; give at most 384000"),
        ({"sample_rate": 16000, "max_seconds": 0}, "max_seconds=0 is not allowed"),
        ({"sample_rate": 16000, "max_seconds": 1e9}, "give a number from 0.1 to 3600"),
    ],
)
def test_bad_arguments_are_named(write, arguments, message):
    with pytest.raises(ParameterError, match=message):
        read_audio(write(encoded(tone())), **arguments)


FUZZ = """
    import io, resource, sys
    import numpy as np, soundfile
    from biasaudio.embed.audio import read_audio
    from biasaudio.errors import DataError
    # Beyond the address space that numpy's threads have reserved, a part for each core.
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**30,) * 2)
    rng = np.random.default_rng(int(sys.argv[2]))
    samples = rng.uniform(-0.5, 0.5, (3000, 2))
    seeds = []
    for kind, subtype in [("WAV", "PCM_16"), ("WAV", "IMA_ADPCM"), ("FLAC", "PCM_16"),
                          ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16")]:
        stream = io.BytesIO()
        soundfile.write(stream, samples, 16000, format=kind, subtype=subtype)
        seeds.append(stream.getvalue())
    read = refused = 0
    for i in range(int(sys.argv[3])):
        content = bytearray(seeds[i % len(seeds)])
        for _ in range(rng.integers(1, 6)):
            at = rng.integers(min(len(content), 120) if rng.random() < 0.7 else len(content))
            size = int(rng.choice([0, 2**31 - 1, 2**31, 2**32 - 1])).to_bytes(4, "little")
            content[at : at + 4] = [size, size[::-1], rng.bytes(4), b""][rng.integers(4)]
        with open(sys.argv[1], "wb") as file:
            file.write(content)
        try:
            waveform = read_audio(sys.argv[1], 8000).waveform
            read += bool(np.isfinite(waveform).all())
        except DataError as error:
            refused += "\\n" not in str(error)
    # Not ru_maxrss, which a process inherits from the one that has started it.
    with open("/proc/self/status") as file:
        [peak] = [int(line.split()[1]) for line in file if line.startswith("VmHWM:")]
    print(read, refused, peak // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS bounds memory on Linux only")
def test_damaged_files_are_read_or_refused_in_bounded_memory(tmp_path):
    n = 600
    command = [sys.executable, "-c", textwrap.dedent(FUZZ), tmp_path / "a.wav", "7", str(n)]
    # A file that hangs or crashes the decoder would end the process.
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "Traceback" not in run.stderr
    read, refused, megabytes = map(int, run.stdout.split())
    assert read + refused == n
    assert min(read, refused) > n // 20
    assert megabytes < 512
