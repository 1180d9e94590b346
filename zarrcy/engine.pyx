"""Where the compiled modules are that `import zarrcy` loads: all in the file of this one. A file of their own for each
would be opened, mapped and linked twenty times."""

import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec

cdef extern from *:
    const char* c_names "ZARRCY_ENGINE_MODULES"   # with commas between them; CMakeLists.txt says which

names = frozenset((<bytes>c_names).decode().split(","))
cdef object file = __file__


cdef class EngineFinder:
    """Finds these modules for ``import``, as ``sys.meta_path`` wants it."""

    def find_spec(self, name, path=None, target=None):
        if name not in names:
            return None
        spec = ModuleSpec(name, ExtensionFileLoader(name, file), origin=file)
        spec.has_location = True   # so that they have a __file__
        return spec


if not any(type(finder) is EngineFinder for finder in sys.meta_path):
    sys.meta_path.insert(0, EngineFinder())
