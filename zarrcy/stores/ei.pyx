"""A connection to an Erlang node, through ``libei`` of Erlang/OTP.

A call goes to the node's ``rex`` server, as ``rpc:call/4`` does. One call at a time: a connection belongs to whoever
took it from the pool.
"""
from cpython.exc cimport PyErr_CheckSignals
from libc cimport errno as c_errno
from libc.string cimport memcpy

from zarrcy.stores.erlang_terms cimport TermWriter, read_term
from zarrcy.stores.lib.ei cimport (
    EI_MAX_COOKIE_SIZE, ERL_MSG, ERL_NO_DAEMON, ERL_NO_PORT, ERL_TICK, MAXNODELEN, ei_close_connection, ei_cnode,
    ei_connect_xinit_ussi, ei_encode_pid, ei_reg_send_tmo, ei_self, ei_socket_callbacks, ei_x_buff, ei_x_free, ei_x_new,
    ei_xconnect_host_port_tmo, ei_xreceive_msg_tmo, erl_errno, erlang_msg, polled_init, polled_sockets,
)

import socket
import time

from zarrcy.stores.epmd import find_node
from zarrcy.stores.erlang_terms import Atom, Encoded

__all__ = ["Connection", "EiError"]

cdef extern from "poll.h" nogil:
    short POLLIN
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd* fds, unsigned long n, int ms)

cdef extern from "arpa/inet.h" nogil:
    struct in_addr:
        unsigned int s_addr

cdef extern from *:
    """
    enum { ZARRCY_VERSION_MAGIC = 131, ZARRCY_ERL_SEND = 2, ZARRCY_ERL_REG_SEND = 6, ZARRCY_MAX_PID_NBYTES = 1100 };
    """
    enum:
        ZARRCY_VERSION_MAGIC
        ZARRCY_ERL_SEND
        ZARRCY_ERL_REG_SEND
        ZARRCY_MAX_PID_NBYTES

cdef enum:
    SLICE_MS = 200            # between the slices Ctrl-C is heard
    KEPT_NBYTES = 1 << 20     # a larger answer's memory is given back

cdef bint initialised = False


class EiError(Exception):
    """What libei reported.

    Attributes
    ----------
    stage : str
        ``"connect"``; ``"send"``, when the node has not got the whole call and will not run it; ``"receive"``, when
        it may have run.
    status, errno : int
        What the function of libei returned, and its ``erl_errno``.
    """

    def __init__(self, stage, status, errno):
        super().__init__(f"{stage}: status {status}, errno {errno}")
        self.stage = stage
        self.status = status
        self.errno = errno


cdef tuple find(str node, double timeout):
    """The address, in four bytes, and the port of a node."""
    # Not by libei: what it asks epmd with waits with select().
    try:
        place = find_node(node, timeout)
    except OSError as error:
        failed = error.errno if error.errno and error.errno > 0 else c_errno.EHOSTUNREACH
        if isinstance(error, TimeoutError):
            failed = c_errno.ETIMEDOUT
        raise EiError("connect", ERL_NO_DAEMON, failed) from error
    if place is None:
        raise EiError("connect", ERL_NO_PORT, c_errno.ENOENT)
    return socket.inet_aton(place[0]), place[1]


cdef class Connection:
    """A connection to a node.

    Parameters
    ----------
    node : str
        The node's name, ``name@host``.
    cookie : bytes
        The secret of its cluster.
    host, alive : str
        The name of this end, ``alive@host``; the node refuses one that is connected already.
    timeout : float
        Seconds to wait.

    Raises
    ------
    EiError
        There is no connection to be had.
    ValueError
        The name or the cookie is too long.
    """

    cdef readonly str node
    cdef public dict programs   # what the node has parsed for this connection
    cdef ei_cnode ec
    cdef int fd
    cdef TermWriter writer
    cdef ei_x_buff answer

    def __cinit__(self):
        self.fd = -1
        self.writer = TermWriter()
        self.programs = {}

    def __init__(self, str node, bytes cookie, str host, str alive, double timeout):
        global initialised
        cdef bytes c_host = host.encode()
        cdef bytes c_alive = alive.encode()
        cdef bytes c_name = f"{alive}@{host}".encode()
        cdef in_addr address
        cdef unsigned int ms
        cdef int fd, failed, port
        if len(cookie) > EI_MAX_COOKIE_SIZE or max(len(node.encode()), len(c_name)) > MAXNODELEN - 1:
            raise ValueError(f"expected a cookie of at most {EI_MAX_COOKIE_SIZE} bytes, names of {MAXNODELEN - 1}")
        if not initialised:
            polled_init()
            initialised = True
        if self.answer.buff == NULL and ei_x_new(&self.answer) != 0:
            raise MemoryError
        deadline = time.monotonic() + timeout
        found, port = find(node, timeout)
        memcpy(&address.s_addr, <const char*>found, sizeof(address.s_addr))
        if ei_connect_xinit_ussi(&self.ec, c_host, c_alive, c_name, &address, cookie, 0, &polled_sockets,
                                 sizeof(ei_socket_callbacks), NULL) < 0:
            raise EiError("connect", -1, erl_errno)
        ms = <unsigned int>(max(deadline - time.monotonic(), 0) * 1000) + 1
        with nogil:
            fd = ei_xconnect_host_port_tmo(&self.ec, &address, port, ms)
            failed = erl_errno
        if fd < 0:
            raise EiError("connect", fd, failed)
        self.fd, self.node = fd, node

    def __dealloc__(self):
        if self.fd >= 0:
            ei_close_connection(self.fd)
        if self.answer.buff != NULL:
            ei_x_free(&self.answer)

    def close(self):
        """Close it. In a forked child that leaves the parent's connection as it is."""
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            ei_close_connection(fd)

    def is_alive(self):
        """Answer the ticks that came while nobody called; False when the node has hung up."""
        cdef erlang_msg message
        cdef int rc
        while self.fd >= 0 and self.wait(0):
            with nogil:
                rc = ei_xreceive_msg_tmo(self.fd, &message, &self.answer, 1000)
            if rc != ERL_TICK:
                return False
        return self.fd >= 0

    cdef bint wait(self, int ms) except -1:
        """Whether something can be read, within that time."""
        cdef pollfd waiting
        cdef int rc
        waiting.fd, waiting.events, waiting.revents = self.fd, POLLIN, 0
        if ms == 0:
            return poll(&waiting, 1, 0) > 0   # at once: to give up the GIL would cost more
        with nogil:
            rc = poll(&waiting, 1, ms)
        PyErr_CheckSignals()
        return rc > 0

    def call(self, str module, str function, list arguments, double timeout):
        """``rpc:call(node, module, function, arguments)``.

        Raises
        ------
        EiError
            The connection broke, or there was no answer within `timeout` seconds; the connection is of no more use.
        """
        deadline = time.monotonic() + timeout
        try:
            self.write(module, function, arguments)
            self.send(<unsigned int>(timeout * 1000))
            self.receive(deadline)
            answer = read_term(<const unsigned char*>self.answer.buff, self.answer.index)
        except BaseException:
            # Whatever comes now would be taken for the answer to the next call.
            self.close()
            raise
        finally:
            self.writer.clear()
            self.shrink()
        if type(answer) is not tuple or len(answer) != 2 or answer[0] != "rex":
            self.close()
            raise EiError("receive", ERL_MSG, c_errno.EPROTO)
        return answer[1]

    cdef int write(self, str module, str function, list arguments) except -1:
        """``{Pid, {call, Module, Function, Arguments, user}}``, as rex takes it from a node in C."""
        cdef char pid[ZARRCY_MAX_PID_NBYTES]
        cdef int n = 0
        ei_encode_pid(pid, &n, ei_self(&self.ec))
        self.writer.put_byte(ZARRCY_VERSION_MAGIC)
        call = (Atom("call"), Atom(module), Atom(function), arguments, Atom("user"))
        self.writer.put((Encoded(pid[:n]), call))
        return 0

    cdef int send(self, unsigned int ms) except -1:
        cdef int rc, failed
        if self.fd < 0:
            raise EiError("send", -1, c_errno.ENOTCONN)
        if self.writer.nbytes >= 1 << 31:
            raise ValueError(f"call of {self.writer.nbytes} bytes: expected less than 2 GiB")
        with nogil:
            rc = ei_reg_send_tmo(&self.ec, self.fd, b"rex", self.writer.data, <int>self.writer.nbytes, ms)
            failed = erl_errno
        if rc < 0:
            raise EiError("send", rc, failed)
        return 0

    cdef int receive(self, double deadline) except -1:
        """Wait for the next message, and answer the ticks before it."""
        cdef erlang_msg message
        cdef int rc, failed
        cdef unsigned int ms
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise EiError("receive", -1, c_errno.ETIMEDOUT)
            if not self.wait(min(SLICE_MS, <int>(left * 1000) + 1)):
                continue
            ms = <unsigned int>(left * 1000) + 1
            with nogil:
                rc = ei_xreceive_msg_tmo(self.fd, &message, &self.answer, ms)
                failed = erl_errno
            if rc == ERL_MSG and message.msgtype in (ZARRCY_ERL_SEND, ZARRCY_ERL_REG_SEND):
                return 0
            if rc != ERL_TICK and rc != ERL_MSG:
                raise EiError("receive", rc, failed)

    cdef int shrink(self) except -1:
        if self.answer.buffsz > KEPT_NBYTES:
            ei_x_free(&self.answer)
            if ei_x_new(&self.answer) != 0:
                raise MemoryError
        return 0
