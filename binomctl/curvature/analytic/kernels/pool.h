/* Threads that share the units of a call. */
#ifndef BINOMCTL_POOL_H
#define BINOMCTL_POOL_H

#include <stdint.h>

/* What is left of a call's units. */
typedef struct Units Units;

/* The next unit, or -1 when all are taken. */
int64_t next_unit(Units* units);

/* body(arg, units) by at most `threads` threads, the caller's among them; each takes units until
 * none is left. Returns the largest number that a body returned. */
int share(int64_t threads, int64_t count, int (*body)(const void* arg, Units* units),
          const void* arg);

#endif
