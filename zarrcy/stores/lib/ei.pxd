"""OTP's C library for nodes in C, as far as zarrcy calls it (https://www.erlang.org/doc/apps/erl_interface/ei)."""

cdef extern from "ei.h" nogil:
    enum:
        EI_MAX_COOKIE_SIZE
        MAXNODELEN
        ERL_ERROR
        ERL_NO_DAEMON
        ERL_NO_PORT
        ERL_TIMEOUT
        ERL_TICK
        ERL_MSG
    int erl_errno
    ctypedef struct erlang_pid:
        pass
    ctypedef struct erlang_msg:
        long msgtype
    ctypedef struct ei_cnode:
        pass
    ctypedef struct ei_x_buff:
        char* buff
        int buffsz
        int index
    ctypedef struct ei_socket_callbacks:
        pass
    int ei_connect_xinit_ussi(ei_cnode* ec, const char* host, const char* alive, const char* name, void* address,
                              const char* cookie, unsigned int creation, ei_socket_callbacks* callbacks, int nbytes,
                              void* setup)
    int ei_xconnect_host_port_tmo(ei_cnode* ec, void* address, int port, unsigned int ms)
    int ei_close_connection(int fd)
    erlang_pid* ei_self(ei_cnode* ec)
    int ei_encode_pid(char* buf, int* index, const erlang_pid* pid)
    int ei_reg_send_tmo(ei_cnode* ec, int fd, char* server, char* buf, int n, unsigned int ms)
    int ei_xreceive_msg_tmo(int fd, erlang_msg* message, ei_x_buff* x, unsigned int ms)
    int ei_x_new(ei_x_buff* x)
    int ei_x_free(ei_x_buff* x)

cdef extern from "ei_sockets.h" nogil:
    int polled_init()
    ei_socket_callbacks polled_sockets
