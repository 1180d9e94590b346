/* A clock that never goes back, in microseconds. */
#pragma once
#include <stdint.h>
#include <time.h>

static inline int64_t zarrcy_monotonic_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
