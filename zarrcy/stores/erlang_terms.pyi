from typing import Any, NamedTuple

from typing_extensions import Buffer

class Atom(str): ...

class ExternalFun(NamedTuple):
    module: str
    function: str
    arity: int

class Encoded(NamedTuple):
    data: bytes

def encode(term: Any) -> bytes: ...
def decode(data: Buffer) -> Any: ...
