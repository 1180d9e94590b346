/* The sockets that libei is given (OTP calls it a user supplied socket implementation). Its own wait with select(), which
   writes beyond its memory for a descriptor of 1024 or more; these wait with poll().

   Each callback answers 0 or an errno. `ms` is for the whole of what it reads or writes, and EI_SCLBK_INF_TMO is for ever.
   The sockets block, as libei wants them to: single calls do not. */
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "clock.h"
#include "ei.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* macOS: SO_NOSIGPIPE in its place */
#endif

#define POLLED_FOREVER INT64_MAX

enum { POLLED_MAX_PARTS = 8 }; /* libei writes two or three at once; the rest of more is left to its next call */

/* libei knows descriptors below the limit that the process had at this moment. */
static int polled_max_fds;

static int polled_init(void) {
  long limit = sysconf(_SC_OPEN_MAX);
  polled_max_fds = limit < 0 || limit > INT_MAX ? INT_MAX : (int)limit;
  return ei_init();
}

/* The context of a socket is its descriptor, plus one: NULL is no context. */
static int polled_fd(void* context) { return (int)((intptr_t)context - 1); }

static int64_t polled_deadline(unsigned ms) {
  return ms == EI_SCLBK_INF_TMO ? POLLED_FOREVER : zarrcy_monotonic_us() + (int64_t)ms * 1000;
}

static int polled_wait(int fd, short events, int64_t deadline) {
  struct pollfd waiting = {fd, events, 0};
  for (;;) {
    int64_t left = deadline - zarrcy_monotonic_us();
    int64_t ms = left <= 0 ? 0 : left / 1000 + 1;
    int n = poll(&waiting, 1, deadline == POLLED_FOREVER ? -1 : ms > INT_MAX ? INT_MAX : (int)ms);
    if (n > 0) return 0; /* what is wrong with the socket, the next call on it says */
    if (n == 0 && left <= 0) return ETIMEDOUT;
    if (n < 0 && errno != EINTR && errno != EAGAIN) return errno;
  }
}

/* After a call that failed: 0 when it is to be made again. */
static int polled_again(int fd, short events, int64_t deadline) {
  if (errno == EINTR) return 0;
  if (errno == EAGAIN || errno == EWOULDBLOCK) return polled_wait(fd, events, deadline);
  return errno;
}

static int polled_open(void** context, void* setup) {
  int one = 1;
  (void)setup;
#ifdef SOCK_CLOEXEC
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
#else
  int fd = socket(AF_INET, SOCK_STREAM, 0);
#endif
  if (fd < 0) return errno;
  int failed = fd >= polled_max_fds ? EMFILE : 0;
#ifndef SOCK_CLOEXEC
  if (!failed && fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) failed = errno;
#endif
#ifdef SO_NOSIGPIPE
  if (!failed && setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &one, sizeof one) != 0) failed = errno;
#endif
  if (!failed && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0) failed = errno;
  if (!failed && setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one) != 0) failed = errno;
  if (failed) {
    close(fd);
    return failed;
  }
  *context = (void*)((intptr_t)fd + 1);
  return 0;
}

static int polled_close(void* context) {
  /* Where close() is interrupted, the descriptor is gone all the same. */
  return close(polled_fd(context)) == 0 || errno == EINTR ? 0 : errno;
}

static int polled_connect(void* context, void* address, int nbytes, unsigned ms) {
  int fd = polled_fd(context), failed = 0;
  int64_t deadline = polled_deadline(ms);
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return errno;
  if (connect(fd, (struct sockaddr*)address, (socklen_t)nbytes) != 0) {
    failed = errno;
    if (failed == EINPROGRESS || failed == EINTR) {
      failed = polled_wait(fd, POLLOUT, deadline);
      socklen_t length = sizeof failed;
      if (!failed && getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &length) != 0) failed = errno;
    }
  }
  if (fcntl(fd, F_SETFL, flags) != 0 && !failed) failed = errno;
  return failed;
}

/* Reads it all; less when the other end has hung up. */
static int polled_read(void* context, char* to, ssize_t* nbytes, unsigned ms) {
  int fd = polled_fd(context);
  int64_t deadline = polled_deadline(ms);
  ssize_t done = 0;
  while (done < *nbytes) {
    ssize_t n = recv(fd, to + done, (size_t)(*nbytes - done), MSG_DONTWAIT);
    if (n == 0) break;
    if (n > 0) {
      done += n;
      continue;
    }
    int failed = polled_again(fd, POLLIN, deadline);
    if (failed) return failed;
  }
  *nbytes = done;
  return 0;
}

static int polled_writev(void* context, const void* parts, int n_parts, ssize_t* nbytes, unsigned ms) {
  int fd = polled_fd(context);
  int64_t deadline = polled_deadline(ms);
  struct iovec left[POLLED_MAX_PARTS];
  struct msghdr message = {0};
  message.msg_iov = left;
  message.msg_iovlen = n_parts < POLLED_MAX_PARTS ? n_parts : POLLED_MAX_PARTS;
  memcpy(left, parts, message.msg_iovlen * sizeof *left);
  *nbytes = 0;
  while (message.msg_iovlen > 0) {
    ssize_t n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
      int failed = polled_again(fd, POLLOUT, deadline);
      if (failed) return failed;
      continue;
    }
    *nbytes += n;
    while (message.msg_iovlen > 0 && (size_t)n >= message.msg_iov->iov_len) {
      n -= (ssize_t)message.msg_iov->iov_len;
      message.msg_iov++;
      message.msg_iovlen--;
    }
    if (message.msg_iovlen > 0) {
      message.msg_iov->iov_base = (char*)message.msg_iov->iov_base + n;
      message.msg_iov->iov_len -= (size_t)n;
    }
  }
  return 0;
}

static int polled_write(void* context, const char* from, ssize_t* nbytes, unsigned ms) {
  struct iovec whole = {(void*)from, (size_t)*nbytes};
  return polled_writev(context, &whole, 1, nbytes, ms);
}

static int polled_packet_header_size(void* context, int* nbytes) {
  (void)context;
  *nbytes = 2; /* of Erlang's handshake over TCP */
  return 0;
}

static int polled_get_fd(void* context, int* fd) {
  *fd = polled_fd(context);
  return 0;
}

/* Nobody connects to us. libei wants the callbacks all the same. */
static int polled_listen(void* context, void* address, int* nbytes, int backlog) {
  (void)context, (void)address, (void)nbytes, (void)backlog;
  return EOPNOTSUPP;
}

static int polled_accept(void** context, void* address, int* nbytes, unsigned ms) {
  (void)context, (void)address, (void)nbytes, (void)ms;
  return EOPNOTSUPP;
}

static ei_socket_callbacks polled_sockets = {
    .flags = EI_SCLBK_FLG_FULL_IMPL,
    .socket = polled_open,
    .close = polled_close,
    .listen = polled_listen,
    .EI_ACCEPT_NAME = polled_accept,
    .connect = polled_connect,
    .writev = polled_writev,
    .write = polled_write,
    .read = polled_read,
    .handshake_packet_header_size = polled_packet_header_size,
    .get_fd = polled_get_fd,
};
