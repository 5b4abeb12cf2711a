# The public names. Each is imported when it is first used.
from .masking import sample_hybrid_mask as sample_hybrid_mask
from .meiosis import meiosis as meiosis
from .patch_masking import sample_patch_mask as sample_patch_mask
from .span_masking import sample_span_mask as sample_span_mask
from .transforms import ChannelMask as ChannelMask
from .transforms import HybridMask as HybridMask
from .transforms import Meiosis as Meiosis
from .transforms import ParallelMask as ParallelMask
from .transforms import PatchMask as PatchMask
from .transforms import RandomMask as RandomMask
from .transforms import SpanMask as SpanMask
