"""Token mixers: self-attention over a relation, cross-attention to the memory port."""

from vidar.nn.mixers.config import MixerConfig
from vidar.nn.mixers.cross_attention import CrossAttention, CrossAttentionConfig
from vidar.nn.mixers.self_attention import SelfAttention, SelfAttentionConfig

__all__ = ["CrossAttention", "CrossAttentionConfig", "MixerConfig", "SelfAttention", "SelfAttentionConfig"]
