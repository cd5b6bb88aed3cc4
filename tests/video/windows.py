"""A display without a screen, and a user who presses keys and closes."""

import ctypes
import shutil
import subprocess
import time
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_uint, c_ulong
from ctypes import c_void_p as pointer

import numpy as np

XVFB = shutil.which('Xvfb')
KEY_PRESS, CLIENT_MESSAGE = 2, 33
PATIENCE = 200

HEAD = [
    ('type', c_int),
    ('serial', c_ulong),
    ('send_event', c_int),
    ('display', pointer),
    ('window', c_ulong),
]


class Key(ctypes.Structure):
    _fields_ = [
        *HEAD,
        ('root', c_ulong),
        ('subwindow', c_ulong),
        ('time', c_ulong),
        ('place', c_int * 4),
        ('state', c_uint),
        ('keycode', c_uint),
        ('same_screen', c_int),
    ]


class Message(ctypes.Structure):
    _fields_ = [
        *HEAD,
        ('message_type', c_ulong),
        ('format', c_int),
        ('data', c_long * 5),
    ]


class Event(ctypes.Union):
    _fields_ = [('key', Key), ('message', Message), ('room', c_long * 24)]


# Windows come and go while they are looked for. By itself, Xlib ends the
# process at a question about one that is gone; with this it answers with 0.
@ctypes.CFUNCTYPE(c_int, pointer, pointer)
def go_on(line, error):
    return 0


class Display:
    """Runs a server of X11; use it as a context.

    Args:
        folder: Where it keeps what its screen shows.
        size: Of its screen.
    """

    def __init__(self, folder, size=(640, 480)):
        self._picture = folder / 'Xvfb_screen0'
        screen = f'{size[0]}x{size[1]}x24'
        command = [XVFB, '-displayfd', '1', '-nolisten', 'tcp']
        command += ['-screen', '0', screen, '-fbdir', str(folder)]
        self._server = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.name = f':{int(self._server.stdout.readline())}'

    def __enter__(self):
        x = ctypes.CDLL('libX11.so.6')
        x.XOpenDisplay.restype = x.XDefaultRootWindow.restype = pointer
        x.XInternAtom.restype = x.XStringToKeysym.restype = c_ulong
        x.XSetErrorHandler(go_on)
        self._x = x
        self._line = pointer(x.XOpenDisplay(self.name.encode()))
        self._root = x.XDefaultRootWindow(self._line)
        return self

    def __exit__(self, *_):
        self._x.XCloseDisplay(self._line)
        self._server.terminate()
        self._server.communicate()

    def screen(self):
        """Return what the screen shows, (H, W, 3) BGR."""
        data = self._picture.read_bytes()
        header = np.frombuffer(data, '>u4', 25)
        width, height, colours = header[4], header[5], header[19]
        pixels = np.frombuffer(data[header[0] + 12 * colours :], np.uint8)
        return pixels[: 4 * width * height].reshape(height, width, 4)[..., :3]

    def find(self, title):
        """Wait for a window and return its number."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = self._search(self._root, title.encode())
            if found is not None:
                return found
            time.sleep(0.05)
        raise AssertionError(f'there is no window {title}')

    def has(self, title):
        """Tell whether there is a window."""
        return self._search(self._root, title.encode()) is not None

    def press(self, window, key):
        """Press a key in a window."""
        symbol = c_ulong(self._x.XStringToKeysym(key.encode()))
        code = self._x.XKeysymToKeycode(self._line, symbol)
        event = Event()
        event.key.type, event.key.keycode = KEY_PRESS, code
        event.key.root, event.key.same_screen = self._root, 1
        self._send(window, event)

    def close(self, window):
        """Close a window as its user does."""
        event = Event()
        event.message.type, event.message.format = CLIENT_MESSAGE, 32
        names = b'WM_PROTOCOLS', b'WM_DELETE_WINDOW'
        atoms = [self._x.XInternAtom(self._line, name, 0) for name in names]
        event.message.message_type, event.message.data[0] = atoms
        self._send(window, event)

    def _send(self, window, event):
        event.key.window, event.key.display = window, self._line
        self._x.XSendEvent(self._line, c_ulong(window), 0, 1, byref(event))
        self._x.XFlush(self._line)

    def _search(self, window, title):
        name, children = c_char_p(), POINTER(c_ulong)()
        self._x.XFetchName(self._line, c_ulong(window), byref(name))
        if name.value == title:
            return window
        root, parent, number = c_ulong(), c_ulong(), c_uint()
        numbers = byref(root), byref(parent), byref(children), byref(number)
        self._x.XQueryTree(self._line, c_ulong(window), *numbers)
        found = (self._search(w, title) for w in children[: number.value])
        return next((one for one in found if one is not None), None)
