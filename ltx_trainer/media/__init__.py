"""The room that knows FFmpeg: media files to arrays and facts, and arrays to media files."""

from ltx_trainer.media.audio import decode_audio, fit_audio
from ltx_trainer.media.cuts import THRESHOLDS, Cut, CutRule, cut_rule
from ltx_trainer.media.decode import decode_frames, decode_whole
from ltx_trainer.media.encode import recompress_still, write_audio, write_exact_audio, write_video
from ltx_trainer.media.images import decode_image, jpeg_bytes, resized, scan_image, write_image
from ltx_trainer.media.join import join_sounds, join_videos, read_audio
from ltx_trainer.media.probe import AudioScan, VideoScan, scan_audio, scan_video
from ltx_trainer.media.source import Buffer, read_mask, read_pictures, read_sound
from ltx_trainer.media.spool import Reel, Spool, Wish, opened_spool
from ltx_trainer.media.stretch import stretch_audio

__all__ = [
    "THRESHOLDS",
    "AudioScan",
    "Buffer",
    "Cut",
    "CutRule",
    "Reel",
    "Spool",
    "VideoScan",
    "Wish",
    "cut_rule",
    "decode_audio",
    "decode_frames",
    "decode_image",
    "decode_whole",
    "fit_audio",
    "join_sounds",
    "join_videos",
    "jpeg_bytes",
    "opened_spool",
    "read_audio",
    "read_mask",
    "read_pictures",
    "read_sound",
    "recompress_still",
    "resized",
    "scan_audio",
    "scan_image",
    "scan_video",
    "stretch_audio",
    "write_audio",
    "write_exact_audio",
    "write_image",
    "write_video",
]
