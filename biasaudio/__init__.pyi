from . import datasets as datasets
from . import embed as embed
from . import errors as errors
from . import moments as moments
from . import probes as probes
from . import report as report
from . import store as store
from . import transfer as transfer
from . import transforms as transforms
from ._audit import audit as audit
from ._audit import reproduce as reproduce
from .datasets import ClipTable as ClipTable
from .datasets import EmbeddingTable as EmbeddingTable
from .datasets import load_irmas as load_irmas
from .datasets import load_manifest as load_manifest
from .datasets import load_openmic as load_openmic
from .errors import BiasAudioError as BiasAudioError
from .errors import BiasAudioWarning as BiasAudioWarning
from .results import AuditResult as AuditResult
from .store import EmbeddingStore as EmbeddingStore

__version__: str
