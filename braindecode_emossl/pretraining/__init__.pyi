# The public names. Each is imported when it is first used.
from .checkpoints import load_checkpoint as load_checkpoint
from .checkpoints import load_encoder as load_encoder
from .checkpoints import save_checkpoint as save_checkpoint
from .classifier import SSLClassifier as SSLClassifier
from .clustering import ClusterReport as ClusterReport
from .distributed import DistributedPretrainer as DistributedPretrainer
from .hub import push_to_hub as push_to_hub
from .masked_cluster import MaskedClusterPretraining as MaskedClusterPretraining
from .memhacl import MEMHACLPretraining as MEMHACLPretraining
from .mood_reader import MoodReaderPretraining as MoodReaderPretraining
from .objective import PretrainingObjective as PretrainingObjective
from .objective import PretrainingOutput as PretrainingOutput
from .pretrainer import SSLPretrainer as SSLPretrainer
from .provenance import LeakageError as LeakageError
from .provenance import check_leakage as check_leakage
from .scmm import SCMMPretraining as SCMMPretraining
