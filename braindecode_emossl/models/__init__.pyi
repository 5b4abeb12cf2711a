# The public names. Each is imported when it is first used.
from .masked_cluster_transformer import (
    MaskedClusterTransformer as MaskedClusterTransformer,
)
from .memhacl import MEMHACL as MEMHACL
from .mood_reader import MoodReader as MoodReader
from .scmm import SCMM as SCMM
