# The public names. Each is imported when it is first used.
from .continuity_batch import ContinuityBatchSampler as ContinuityBatchSampler
from .corpus_balanced import CorpusBalancedSampler as CorpusBalancedSampler
from .stimulus_group import StimulusGroupSampler as StimulusGroupSampler
from .trial_sequence import TrialSequenceSampler as TrialSequenceSampler
