/* Helpers that wait for calls, at first awake, then asleep.
 *
 * Whoever calls works, too, and waits at the end for units that are being worked on, never for a
 * helper to arrive: on a machine that is busy with other things a call takes as long as it takes
 * one thread. OpenMP's threads all have to come to the end of a loop, and a small network's step
 * has twenty such ends. */
#define _GNU_SOURCE
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { MOST = 64, AWAKE_NS = 200000 };

/* A call, and what is left of its units. */
typedef struct {
  atomic_int_fast64_t taken;
  int64_t count;
  size_t bytes;
  Unit one;
  const void* arg;
  int wanted, inside, failed; /* helpers: still to come, at work; under the lock */
} Shared;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, one_call = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t begun = PTHREAD_COND_INITIALIZER, ended = PTHREAD_COND_INITIALIZER;
static Shared* now;                /* the call that helpers may join; under the lock */
static atomic_uint_fast64_t calls; /* begun so far */
static int helpers;                /* threads there are; under one_call */

/* Units, one after the other, until none is left. */
static int take(Shared* call) {
  int failed = 0;
  void* work = call->bytes ? calloc(1, call->bytes) : NULL;
  if (call->bytes && !work) return 1;
  for (int64_t u; (u = atomic_fetch_add(&call->taken, 1)) < call->count;) {
    const int code = call->one(call->arg, u, work);
    failed = code > failed ? code : failed;
  }
  free(work);
  return failed;
}

static int64_t nanoseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void* help(void* unused) {
  uint_fast64_t seen = 0;
  for (;;) {
    const int64_t until = nanoseconds() + AWAKE_NS;
    while (atomic_load(&calls) == seen && nanoseconds() < until) sched_yield();
    pthread_mutex_lock(&lock);
    while (atomic_load(&calls) == seen) pthread_cond_wait(&begun, &lock);
    seen = atomic_load(&calls);
    Shared* call = now;
    if (call && call->wanted > 0) {
      call->wanted--;
      call->inside++;
      pthread_mutex_unlock(&lock);
      const int failed = take(call);
      pthread_mutex_lock(&lock);
      if (failed > call->failed) call->failed = failed;
      if (--call->inside == 0) pthread_cond_signal(&ended);
    }
    pthread_mutex_unlock(&lock);
  }
  return unused;
}

/* A child of fork() has none of its parent's helpers. */
static void in_child(void) {
  pthread_mutex_init(&lock, NULL);
  pthread_mutex_init(&one_call, NULL);
  pthread_cond_init(&begun, NULL);
  pthread_cond_init(&ended, NULL);
  now = NULL;
  helpers = 0;
}

static void grow(int wanted) {
  static int once;
  if (!once) once = pthread_atfork(NULL, NULL, in_child) == 0;
  pthread_attr_t detached;
  pthread_attr_init(&detached);
  pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  while (helpers < wanted && helpers < MOST && pthread_create(&thread, &detached, help, NULL) == 0)
    helpers++;
  pthread_attr_destroy(&detached);
}

int share(int64_t threads, int64_t count, size_t bytes, Unit one, const void* arg) {
  Shared call = {.count = count, .bytes = bytes, .one = one, .arg = arg};
  const int wanted = (int)(threads < count ? threads : count) - 1;
  /* Another thread's call has the helpers: this one does without. */
  if (wanted <= 0 || pthread_mutex_trylock(&one_call) != 0) return take(&call);
  grow(wanted);
  pthread_mutex_lock(&lock);
  call.wanted = wanted;
  now = &call;
  atomic_fetch_add(&calls, 1);
  pthread_cond_broadcast(&begun);
  pthread_mutex_unlock(&lock);
  const int failed = take(&call);
  pthread_mutex_lock(&lock);
  now = NULL;
  while (call.inside) pthread_cond_wait(&ended, &lock);
  pthread_mutex_unlock(&lock);
  pthread_mutex_unlock(&one_call);
  return failed > call.failed ? failed : call.failed;
}
