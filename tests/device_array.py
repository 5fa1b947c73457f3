"""A stand-in for CuPy on machines without a GPU: a module of device arrays that is as strict, and slow.

It is handed to the package in CuPy's place, so that a test can see what the package would ask of a device.
Like CuPy it refuses to turn a device array into a NumPy array unless told to (``get``, ``asnumpy``), refuses
to compute with NumPy arrays, keeps results without axes on the device, and has the functions, methods and
arguments of CuPy that are listed below and no others; ``test_device.py`` holds the lists against CuPy itself
where that is installed, for which no GPU is needed. It is stricter in one thing: an index or a value that
lies on the host is refused, where CuPy would copy it in silence.

``watch()`` counts what crosses between host and device, and the dtypes of all results.
"""

import inspect
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np

SCALARS = (bool, int, float, np.generic)


# ----------------------------------------------------------------------------- what is counted


class Traffic:
    """Arrays that were copied to the device or from it, scalars that were read, dtypes of results."""

    def __init__(self):
        self.uploads = self.downloads = self.reads = 0
        self.dtypes = Counter()


_watching = []


@contextmanager
def watch():
    """Count within the block."""
    _watching.append(Traffic())
    try:
        yield _watching[-1]
    finally:
        _watching.pop()


def _count(what, x=None):
    for traffic in _watching:
        if what == "dtypes":
            traffic.dtypes[x.dtype.name] += 1
        else:
            setattr(traffic, what, getattr(traffic, what) + 1)


# ----------------------------------------------------------------------------- host and device


def _host(x):
    """What NumPy computes with in the place of an argument; arrays of NumPy are refused."""
    if isinstance(x, DeviceArray):
        return x._host
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, list | tuple):
        return type(x)(map(_host, x))
    return x


def _device(result):
    """A result of NumPy's as an array of the device; one without axes stays there too."""
    if isinstance(result, tuple):
        return tuple(map(_device, result))
    array = DeviceArray.__new__(DeviceArray)
    array._host = np.asarray(result)
    _count("dtypes", array._host)
    return array


def _compute(function, args, kwargs):
    """Call NumPy without its warnings: CuPy gives none."""
    out = kwargs.get("out")
    host_kwargs = {name: _host(value) for name, value in kwargs.items()}
    with np.errstate(all="ignore"):
        result = function(*map(_host, args), **host_kwargs)
    return _device(result) if out is None else out


def _call_with(signature, function):
    """``function`` for the arguments that CuPy's function of this signature takes."""
    checker = inspect.signature(eval(f"lambda {signature}: None"))

    def call(*args, **kwargs):
        checker.bind(*args, **kwargs)
        if kwargs.get("order", "C") is None:
            raise TypeError("order must be a string")
        return _compute(function, args, kwargs)

    return call


# ----------------------------------------------------------------------------- the class

METHODS = {
    "all": "axis=None, out=None, keepdims=False",
    "any": "axis=None, out=None, keepdims=False",
    "argmax": "axis=None, out=None, dtype=None, keepdims=False",
    "argmin": "axis=None, out=None, dtype=None, keepdims=False",
    "clip": "min=None, max=None, out=None",
    "copy": "order='C'",
    "cumsum": "axis=None, dtype=None, out=None",
    "max": "axis=None, out=None, keepdims=False",
    "mean": "axis=None, dtype=None, out=None, keepdims=False",
    "min": "axis=None, out=None, keepdims=False",
    "prod": "axis=None, dtype=None, out=None, keepdims=None",
    "ravel": "order='C'",
    "reshape": "*shape, order='C', copy=None",
    "std": "axis=None, dtype=None, out=None, ddof=0, keepdims=False",
    "sum": "axis=None, dtype=None, out=None, keepdims=False",
    "swapaxes": "axis1, axis2",
    "take": "indices, axis=None, out=None",
    "transpose": "*axes",
    "var": "axis=None, dtype=None, out=None, ddof=0, keepdims=False",
}
"""Methods of ``cupy.ndarray`` and their arguments."""

OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "matmul": "matmul",
}
COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}


class DeviceArray:
    """An array that lives on the device; its numbers are in ``_host``, which only this module may read."""

    __slots__ = ("_host",)
    __array_priority__ = 100
    __hash__ = None

    def __init__(self):
        raise TypeError("make device arrays with the functions of this module")

    shape = property(lambda self: self._host.shape)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    dtype = property(lambda self: self._host.dtype)
    itemsize = property(lambda self: self._host.itemsize)
    T = property(lambda self: _device(self._host.T))
    device = property(lambda self: "<stand-in 0>")

    def __repr__(self):
        return f"DeviceArray({self._host!r})"

    # To the host, only when asked. There is no __index__: range(array) is an error.

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed; use .get()")

    def get(self):
        _count("downloads" if self.ndim else "reads")
        return self._host.copy()

    def tolist(self):
        return self.get().tolist()

    def item(self):
        return self._read().item()

    def _read(self):
        _count("reads")
        return self._host

    def __bool__(self):
        return bool(self._read())

    def __int__(self):
        return int(self._read())

    def __float__(self):
        return float(self._read())

    def __format__(self, text):
        return format(self.get().item() if self.ndim == 0 else self.get(), text)

    # NumPy's functions are passed on to those of this module (NEP 13 and 18), as CuPy does it.

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if "out" in kwargs:
            (kwargs["out"],) = kwargs["out"]
        operands = (*inputs, *([kwargs["out"]] if "out" in kwargs else []))
        known = all(isinstance(x, (DeviceArray, np.ndarray, *SCALARS)) for x in operands)
        if method != "__call__" or ufunc.__name__ not in PUBLIC or not known:
            return NotImplemented
        return PUBLIC[ufunc.__name__](*inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        known = all(t in (DeviceArray, np.ndarray) for t in types)
        if function.__module__ != "numpy" or function.__name__ not in PUBLIC or not known:
            return NotImplemented
        return PUBLIC[function.__name__](*args, **kwargs)

    # Containers

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key):
        return _device(self._host[_index(key)])

    def __setitem__(self, key, value):
        self._host[_index(key)] = _host(value)

    # Arithmetic

    def __neg__(self):
        return PUBLIC["negative"](self)

    def __invert__(self):
        return PUBLIC["invert"](self)

    def __abs__(self):
        return PUBLIC["absolute"](self)

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if not copy and self.dtype == dtype:
            return self
        return _device(self._host.astype(dtype))


def _index(key):
    """An index with its arrays brought to the host; a mask has to be counted, which synchronises."""
    keys = key if isinstance(key, tuple) else (key,)
    masks = [k for k in keys if isinstance(k, DeviceArray) and k.dtype == bool]
    if len(masks) > 1:
        raise IndexError("CuPy takes one Boolean array in an index at most")
    if masks:
        _count("reads")
    for k in keys:
        if isinstance(k, list | np.ndarray):
            raise TypeError(f"an index on the host would be copied to the device: {type(k)}")
    return tuple(map(_host, keys))


def _operator(ufunc):
    def compute(self, other):
        if isinstance(other, DeviceArray):
            return PUBLIC[ufunc](self, other)
        if getattr(other, "__array_ufunc__", "absent") is None:
            return NotImplemented
        return getattr(np, ufunc)(self, other)

    return compute


def _reflected(ufunc):
    return lambda self, other: getattr(np, ufunc)(other, self)


def _in_place(ufunc):
    return lambda self, other: PUBLIC[ufunc](self, other, out=self)


def _method(name, signature):
    call = _call_with(f"self, {signature}", getattr(np.ndarray, name))
    return lambda self, *args, **kwargs: call(self, *args, **kwargs)


for _name, _ufunc in OPERATORS.items():
    setattr(DeviceArray, f"__{_name}__", _operator(_ufunc))
    setattr(DeviceArray, f"__r{_name}__", _reflected(_ufunc))
    if _name != "matmul":
        setattr(DeviceArray, f"__i{_name}__", _in_place(_ufunc))
for _name, _ufunc in COMPARISONS.items():
    setattr(DeviceArray, f"__{_name}__", _operator(_ufunc))
for _name, _signature in METHODS.items():
    setattr(DeviceArray, _name, _method(_name, _signature))


# ----------------------------------------------------------------------------- the functions

UFUNCS = (  # noqa: SIM905
    "absolute add bitwise_and bitwise_or bitwise_xor conjugate cos cosh divide equal exp expm1 floor floor_divide "
    "greater greater_equal invert isfinite isnan less less_equal log log1p logaddexp logical_and maximum "
    "minimum multiply negative not_equal power remainder sin sqrt square subtract tanh true_divide"
).split()
"""Universal functions of CuPy, each with ``out``."""

FUNCTIONS = {
    "all": "a, axis=None, out=None, keepdims=False",
    "any": "a, axis=None, out=None, keepdims=False",
    "argmax": "a, axis=None, dtype=None, out=None, keepdims=False",
    "argsort": "a, axis=-1, kind=None",
    "ascontiguousarray": "a, dtype=None",
    "broadcast_to": "array, shape",
    "clip": "a, a_min, a_max, out=None",
    "concatenate": "tup, axis=0, out=None, *, dtype=None, casting='same_kind'",
    "cumsum": "a, axis=None, dtype=None, out=None",
    "diagonal": "a, offset=0, axis1=0, axis2=1",
    "einsum": "*operands",
    "empty_like": "prototype, dtype=None, order='K', subok=None, shape=None",
    "expand_dims": "a, axis",
    "max": "a, axis=None, out=None, keepdims=False",
    "mean": "a, axis=None, dtype=None, out=None, keepdims=False",
    "min": "a, axis=None, out=None, keepdims=False",
    "moveaxis": "a, source, destination",
    "ones_like": "a, dtype=None, order='K', subok=None, shape=None",
    "ravel": "a, order='C'",
    "repeat": "a, repeats, axis=None",
    "reshape": "a, newshape, order='C', *, copy=None",
    "squeeze": "a, axis=None",
    "stack": "tup, axis=0, out=None, *, dtype=None, casting='same_kind'",
    "sum": "a, axis=None, dtype=None, out=None, keepdims=False",
    "swapaxes": "a, axis1, axis2",
    "tensordot": "a, b, axes=2",
    "tile": "A, reps",
    "transpose": "a, axes=None",
    "where": "condition, x=None, y=None",
    "zeros_like": "a, dtype=None, order='K', subok=None, shape=None",
}
"""Functions of CuPy that take arrays, and their arguments."""

CREATION = {
    "arange": "start, stop=None, step=1, dtype=None",
    "empty": "shape, dtype=float, order='C'",
    "eye": "N, M=None, k=0, dtype=float, order='C'",
    "full": "shape, fill_value, dtype=None, order='C'",
    "ones": "shape, dtype=float, order='C'",
    "zeros": "shape, dtype=float, order='C'",
}
"""Functions of CuPy that make arrays of numbers, and their arguments."""


class Ufunc:
    """A universal function; ``at`` of ``add`` adds in place where indices repeat."""

    def __init__(self, name):
        self.function = getattr(np, name)
        if name == "add":
            self.at = lambda a, index, b: self.function.at(a._host, _index(index), _host(b))

    def __call__(self, *args, out=None):
        return _compute(self.function, args, {} if out is None else {"out": out})


def matmul(a, b, out=None):
    return _compute(np.matmul, (a, b), {} if out is None else {"out": out})


def nonzero(a):
    """The number of results has to be known on the host."""
    _count("reads")
    return _compute(np.nonzero, (a,), {})


def asarray(a, dtype=None):
    if isinstance(a, DeviceArray):
        return a if dtype is None else a.astype(dtype, copy=False)
    array = np.array(a, dtype=dtype)
    if array.ndim:
        _count("uploads")
    return _device(array)


def asnumpy(a):
    return a.get()


def shape(a):
    return a.shape if isinstance(a, DeviceArray) else np.shape(a)


def ndim(a):
    return len(shape(a))


def size(a):
    return a.size if isinstance(a, DeviceArray) else np.size(a)


def result_type(*arrays_and_dtypes):
    return np.result_type(*map(_host, arrays_and_dtypes))


def iscomplexobj(x):
    return np.iscomplexobj(_host(x))


PUBLIC = {name: Ufunc(name) for name in UFUNCS}
PUBLIC |= {
    name: _call_with(signature, getattr(np, name))
    for name, signature in (FUNCTIONS | CREATION).items()
}
PUBLIC |= {
    function.__name__: function
    for function in (
        asarray, asnumpy, iscomplexobj, matmul, ndim, nonzero, result_type, shape, size,
    )
}  # fmt: skip
PUBLIC["linalg"] = SimpleNamespace(solve=_call_with("a, b", np.linalg.solve))
PUBLIC["abs"] = PUBLIC["absolute"]
PUBLIC |= {name: getattr(np, name) for name in ("dtype", "finfo", "float32", "float64", "newaxis")}


def __getattr__(name):
    """The functions as attributes of this module, which is what the package computes with."""
    try:
        return PUBLIC[name]
    except KeyError:
        raise AttributeError(f"this stand-in for CuPy has no {name}") from None


# ----------------------------------------------------------------------------- random numbers


class Philox4x3210:
    """A bit generator that is made from a seed. Its state cannot be read, and CuPy's cannot either."""

    def __init__(self, seed=None):
        self._host = np.random.PCG64(seed)


class Generator:
    """The methods of ``cupy.random.Generator`` that the package uses; draws are those of NumPy.

    Without ``size``, CuPy draws one number and fills ``out`` with it, and so does this.
    """

    def __init__(self, bit_generator):
        self.bit_generator = bit_generator
        self._host = np.random.Generator(bit_generator._host)

    @staticmethod
    def place(array):
        """A drawn array on the device."""
        return _device(array)

    def _draw(self, draw, size, dtype, out):
        draws = self.place(np.asarray(draw(size, dtype), dtype))
        if out is None:
            return draws
        if out.dtype != dtype:
            raise TypeError(f"Supplied output array has the wrong type, {out.dtype}")
        if size is not None and out.shape != draws.shape:
            raise ValueError("size must match out.shape when used together")
        out[...] = draws
        return out

    def random(self, size=None, dtype=np.float64, out=None):
        return self._draw(self._host.random, size, dtype, out)

    def standard_exponential(self, size=None, dtype=np.float64, method="inv", out=None):
        if method != "inv":
            raise NotImplementedError("Ziggurat method is not supported")
        return self._draw(self._host.standard_exponential, size, dtype, out)

    def integers(self, low, high=None, size=None, dtype=np.int64, endpoint=False):
        return self.place(np.asarray(self._host.integers(low, high, size, dtype, endpoint)))


random = SimpleNamespace(Generator=Generator, Philox4x3210=Philox4x3210)
