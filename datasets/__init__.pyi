# The public names. Each is imported when it is first used.
from .base import EmotionDataset as EmotionDataset
from .base import Trial as Trial
from .deap import DEAP as DEAP
from .dreamer import DREAMER as DREAMER
from .faced import FACED as FACED
from .mahnob_hci import MAHNOB_HCI as MAHNOB_HCI
from .replicas import write_replica as write_replica
from .seed import SEED as SEED
from .seed_iv import SEED_IV as SEED_IV
from .seed_v import SEED_V as SEED_V
from .seed_vii import SEED_VII as SEED_VII
