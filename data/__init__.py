"""Recorders, synthetic worlds, video IO, shards, validation and loading."""

from vidar.data.episode import Episode
from vidar.data.loader import ClipBatch, Clips, ClipsConfig
from vidar.data.reader import DataInfo, data_info, episodes, read_episode
from vidar.data.shards import ShardWriter
from vidar.data.video import decode_video, encode_video, read_video, write_video

__all__ = [
    "ClipBatch",
    "Clips",
    "ClipsConfig",
    "DataInfo",
    "Episode",
    "ShardWriter",
    "data_info",
    "decode_video",
    "encode_video",
    "episodes",
    "read_episode",
    "read_video",
    "write_video",
]
