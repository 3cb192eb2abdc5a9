"""The one query language of the dashboard: what is typed becomes terms, terms become chips, SQL, and a predicate.

`parse` never fails: what cannot be understood is among `Query.faults`, each a sentence that says what is possible.
`Query.matches` judges one row in Python, without a database: the live tail uses it. `conditions.py` has the same
terms as SQL. docs/reference/search.md is the language as people read it; a test holds it to `QUALIFIERS`.
"""

from app.dashboard.search.candidate import Candidate
from app.dashboard.search.language import MAX_LENGTH, MAX_TERMS, QUALIFIERS, Qualifier, Query, Term, parse

__all__ = ["MAX_LENGTH", "MAX_TERMS", "QUALIFIERS", "Candidate", "Qualifier", "Query", "Term", "parse"]
