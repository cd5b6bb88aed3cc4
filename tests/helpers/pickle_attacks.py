"""Pickles that would do harm if numpy or Python took them at their word.

Each is harmless by itself: pointers are null, which numpy takes for None,
and code that would run makes a folder.
"""

import builtins
import os
import pickle
import struct

import numpy as np

NULL = bytes(8)
multiarray = np.core.multiarray


class Call:
    """Pickles as a call of a function, and a state set afterwards."""

    def __init__(self, function, *arguments, state=None):
        parts = function, arguments, state
        self.reduced = parts[:2] if state is None else parts

    def __reduce__(self):
        return self.reduced


def dtype(code, order='|', fields=None, names=None, subarray=None, **more):
    """A dtype with any state; flags 63 are those of an object."""
    size, flags = more.pop('size', 8), more.pop('flags', 63)
    state = (3, order, subarray, names, fields, size, 8, flags, *more.values())
    return Call(np.dtype, code, False, True, state=state)


def array(kind, shape=(1,), raw=NULL):
    """An array with any state."""
    state = (1, shape, kind, False, raw)
    return Call(multiarray._reconstruct, np.ndarray, (0,), b'b', state=state)


FLOAT = np.dtype('f8')
OBJECT = Call(np.dtype, 'O')
FIELDS = {'x': (np.dtype('O'), 0)}

#: Arrays of pointers, by every way there is to one; and arrays whose bytes
#: are not those of their shape.
ARRAYS = {
    'ndarray of objects': Call(np.ndarray, (1,), OBJECT, NULL),
    'ndarray of a code': Call(np.ndarray, (1,), 'O', NULL),
    'ndarray with strides': Call(np.ndarray, (2,), FLOAT, bytes(64), 8, (-8,)),
    'ndarray without bytes': Call(np.ndarray, (1 << 16,), FLOAT),
    'state of objects': array(OBJECT),
    'state of a list': array(OBJECT, raw=['x']),
    'state of bytes as objects': array(dtype('O8')),
    'float that becomes an object': array(
        dtype('f8', fields=FIELDS, names=('x',))
    ),
    'void with fields': array(dtype('V8', fields=FIELDS, names=('x',))),
    'plain fields': array(dtype('V8', fields={'x': (FLOAT, 0)}, names=('x',))),
    'subarray': array(dtype('V8', subarray=(np.dtype('O'), (1,)))),
    'metadata': array(dtype('f8', '<', size=-1, flags=0, metadata={'a': 1})),
    'another size': array(dtype('f8', '<', size=16, flags=0)),
    'order of bytes': array(dtype('f8', 'O', size=-1, flags=0)),
    'structured code': array(Call(np.dtype, 'f4,O')),
    'list of fields': array(Call(np.dtype, [('x', 'O')])),
    'dates': array(Call(np.dtype, 'M8')),
    'dtype of a class': array(Call(np.dtype, float)),
    'more than there is': array(FLOAT, (1 << 40,)),
    'less than there is': array(FLOAT, (1,), bytes(64)),
    'size that overflows': array(FLOAT, (1 << 62, 8), b''),
    'negative length': array(FLOAT, (-1,), b''),
    'length that is none': array(FLOAT, (1.0,)),
    'no dtype': array('f8'),
    'no bytes': array(FLOAT, raw=8),
    'items of no size': array(Call(np.dtype, 'S0'), (1 << 40,), b''),
    'no character': array(Call(np.dtype, 'U1'), raw=b'\xff' * 4),
    'no state': Call(multiarray._reconstruct, np.ndarray, (0,), b'b'),
    'state that is none': Call(
        multiarray._reconstruct, np.ndarray, (0,), b'b', state=(1, 2, 3)
    ),
    'another kind of array': Call(
        multiarray._reconstruct, np.recarray, (0,), b'b'
    ),
    'scalar of an object': Call(multiarray.scalar, OBJECT, NULL),
    'scalar beyond its bytes': Call(multiarray.scalar, FLOAT, b'1'),
    'buffer of objects': Call(
        np.core.numeric._frombuffer, NULL, OBJECT, (1,), 'C'
    ),
    'buffer too short': Call(
        np.core.numeric._frombuffer, NULL, FLOAT, (9,), 'C'
    ),
}

#: What would run code, were it run.
CODE = {
    'mkdir': Call(os.mkdir, 'intruded'),
    'eval': Call(eval, "__import__('os').mkdir('intruded')"),
    'getattr': Call(getattr, np.ndarray, 'tofile'),
    'import': Call(builtins.__import__, 'os'),
    'memory': Call(bytes, 1 << 50),
    'load': Call(np.load, 'intruded.npy'),
}

#: Streams of opcodes that no pickler writes.
STREAMS = {
    'extension': b'\x80\x02\x82\x01.',
    'persistent id': b'Pintruder\n.',
    'persistent object': b'K\x01Q.',
    'instance': b'(S"intruded"\nios\nmkdir\n.',
    'object': b'(cos\nmkdir\nS"intruded"\no.',
    'new object': b'\x80\x02cnumpy\nndarray\n(K\x01\x85X\x01\0\0\0Ot\x81.',
    'state of a list': b'\x80\x02]}X\x01\0\0\0aK\x01sb.',
    'state of a class': b'\x80\x02cnumpy\ndtype\n}X\x01\0\0\0aK\x01sb.',
    'state of a function': (
        b'\x80\x02cnumpy.core.multiarray\nscalar\n'
        b'N}X\x0c\0\0\0__defaults__)s\x86b.'
    ),
    'dotted name': (b'\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.'),
    'far memo': b'\x80\x02Nr\xff\xff\xff\x7f0.',
    'many bytes': b'\x80\x05\x96' + struct.pack('<Q', 1 << 40) + b'a.',
    'many bytes, counted': b'\x80\x04\x8e' + struct.pack('<Q', 1 << 62),
    'deep lists': b'\x80\x02' + b']' * 200_000 + b'a' * 199_999 + b'.',
    'deep tuples': b'\x80\x02)' + b'\x85' * 200_000 + b'.',
    'buffer from elsewhere': b'\x80\x05\x97.',
    'nothing to pop': b'\x80\x020.',
    'nothing': b'',
    'cut': pickle.dumps(np.zeros(9))[:-20],
    'text': b'boxes of persons',
}
