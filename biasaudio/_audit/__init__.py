"""The audit: joins the rooms, from a store and its clips to an `AuditResult`.

The package is private because a public function has its name:
``biasaudio.audit``.
"""

from biasaudio._audit.reproduce import reproduce
from biasaudio._audit.run import audit

__all__ = ["audit", "reproduce"]
