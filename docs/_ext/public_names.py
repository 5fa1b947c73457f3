"""References to names as the reader of a module sees them.

API pages document objects where they are defined, room by room: ``rbst.categorical.softmax``. Readers import
public names from the package, ``rbst.softmax``, and a docstring calls what its module imports by the short
name. This extension lets references, the links in the code of tutorials and other projects find all three.
"""

import importlib


def index_public_names(app, env) -> None:
    """For each documented module, also index what its ``__all__`` lists from other modules."""
    objects = env.domains["py"].objects
    for package in [name for name, entry in objects.items() if entry.objtype == "module"]:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            defined_in = getattr(getattr(module, name), "__module__", package)
            entry = objects.get(f"{defined_in}.{name}")
            if entry is not None and defined_in != package:
                objects[f"{package}.{name}"] = entry._replace(aliased=True)


def resolve_imported_name(app, env, node, contnode):
    """Follow a name that the module of a docstring has imported to where it is defined."""
    module, name = node.get("py:module"), node.get("reftarget")
    if node.get("refdomain") != "py" or module is None:
        return None
    target = getattr(importlib.import_module(module), name, None)
    address = f"{getattr(target, '__module__', None)}.{name}"
    return env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], address, node, contnode
    )


def setup(app) -> dict[str, bool]:
    app.connect("env-updated", index_public_names)
    app.connect("missing-reference", resolve_imported_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
