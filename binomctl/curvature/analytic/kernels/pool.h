/* Threads that share the units of a call. */
#ifndef BINOMCTL_POOL_H
#define BINOMCTL_POOL_H

#include <stddef.h>
#include <stdint.h>

/* What is done for a unit, in work space of the thread's own that its units share, zeroed at first;
 * 0, or what went wrong. */
typedef int (*Unit)(const void* arg, int64_t unit, void* work);

/* one(arg, 0 .. count - 1, work) by at most `threads` threads, the caller's among them, with `bytes`
 * of work space each. Returns the largest number that a unit returned; 1: no memory for the work
 * space. */
int share(int64_t threads, int64_t count, size_t bytes, Unit one, const void* arg);

#endif
