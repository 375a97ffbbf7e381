/* How the work of a call is cut: every task's images go in at most PARTS parts, which threads
 * take one after the other. The cut depends on the shape alone and sums over parts
 * are added up in their order, so that the numbers do not depend on how many threads there are. */
#ifndef BINOMCTL_PARTS_H
#define BINOMCTL_PARTS_H

#include "conv.h"
#include "pool.h"

enum { PARTS = 8, PIXELS_AT_LEAST = 1024 };

typedef struct {
  const Shape* s;
  const Tensors* d;
  int64_t parts, size; /* of a task; images in a part, the last may have fewer */
  double* sums;        /* two sums of C for every part */
  REAL *affine;        /* six coefficients of C for every task */
  REAL *packs[2];      /* packed weights, and their tangents, for every task */
  int64_t steps[2];    /* from task to task; 0: one for all */
  int64_t pack;        /* numbers of one */
  REAL *gw;            /* gradient of the weights for every part */
} Call;

typedef void (*Phase)(const Call*, int64_t unit, REAL* work);

/* Numbers of a task's weights, as their gradient is packed. */
INLINE int64_t weight_size(const Shape* s) { return packed(s->I, s->C); }

static Call begin(const Shape* s, const Tensors* d, int gradients) {
  const int64_t least = (PIXELS_AT_LEAST + s->H * s->W - 1) / (s->H * s->W);
  const int64_t even = (s->N + PARTS - 1) / PARTS;
  const int64_t size = least > even ? least : even, parts = (s->N + size - 1) / size;
  const int64_t kernel = weight_size(s), back = d->gx || d->tgx ? packed(s->C, s->I) : 0;
  const int64_t pack = kernel > back ? kernel : back;
  Call c = {.s = s, .d = d, .parts = parts, .size = size, .pack = pack};
  const int64_t reals =
      s->T * (6 * s->C + 2 * pack + (gradients ? parts * kernel : 0)) + 1;
  c.sums = calloc(1, s->T * parts * 2 * s->C * sizeof(double) + reals * sizeof(REAL));
  c.affine = (REAL*)(c.sums + s->T * parts * 2 * s->C);
  c.packs[0] = c.affine + s->T * 6 * s->C;
  c.packs[1] = c.packs[0] + s->T * pack;
  c.gw = c.packs[1] + s->T * pack;
  return c;
}

static void end(Call* c) { free(c->sums); }

INLINE const REAL* pack_of(const Call* c, int which, int64_t t) {
  return c->packs[which] + t * c->steps[which];
}

typedef void (*After)(const Call*, int64_t t);

/* What is done to every part of a task in `reals` numbers of work space, which the parts that a
 * thread takes leave as they found it, zeroed; then what is done to the task, if anything. */
typedef struct {
  Phase phase;
  int64_t reals;
  After after;
  int slow; /* `after`: several threads pay for it */
} Stage;

/* Weights that are packed first: of every task, or once where all share them (a step of 0). */
typedef struct {
  const REAL* w;
  int64_t step;
} Packing;

typedef struct {
  Call* c;
  Packing packings[2];
  int transposed, count;
  const Stage* stages;
} Work;

static void pack_one(const Work* k, int which, int64_t t) {
  const Shape* s = k->c->s;
  const Packing* p = k->packings + which;
  pack(p->w + t * p->step, s->C, s->I, k->transposed, k->c->packs[which] + t * k->c->pack);
}

/* A task's own weights. */
static int pack_task(const void* arg, int64_t t, void* unused) {
  const Work* k = arg;
  (void)unused;
  for (int which = 0; which < 2; which++)
    if (k->packings[which].w && k->packings[which].step) pack_one(k, which, t);
  return 0;
}

/* A task from end to end: it stays in its thread's cache. */
static int whole_task(const void* arg, int64_t t, void* space) {
  const Work* k = arg;
  REAL* work = space;
  pack_task(k, t, NULL);
  for (const Stage* stage = k->stages; stage < k->stages + k->count; stage++) {
    FOR(part, k->c->parts) stage->phase(k->c, t * k->c->parts + part, work);
    if (stage->after) stage->after(k->c, t);
    work += stage->reals;
  }
  return 0;
}

static int one_part(const void* arg, int64_t unit, void* work) {
  const Work* k = arg;
  k->stages->phase(k->c, unit, work);
  return 0;
}

static int one_after(const void* arg, int64_t t, void* unused) {
  const Work* k = arg;
  (void)unused;
  k->stages->after(k->c, t);
  return 0;
}

/* Whether tasks keep the threads busy to four fifths, so that one goes to a thread as a whole. */
static int enough_tasks(const Shape* s) {
  const int64_t threads = s->threads > 0 ? s->threads : 1, rounds = (s->T + threads - 1) / threads;
  return 5 * s->T >= 4 * rounds * threads;
}

/* All stages of all tasks; of few tasks part by part. Not 0: no memory. */
static int run(Work k) {
  const Shape* s = k.c->s;
  int64_t reals = 1;
  for (int which = 0; which < 2; which++) {
    k.c->steps[which] = k.packings[which].step ? k.c->pack : 0;
    if (k.packings[which].w && !k.packings[which].step) pack_one(&k, which, 0);
  }
  if (enough_tasks(s)) {
    FOR(i, k.count) reals += k.stages[i].reals;
    return share(s->threads, s->T, reals * sizeof(REAL), whole_task, &k);
  }
  int failed = share(s->threads, s->T, 0, pack_task, &k);
  for (; k.count && !failed; k.count--, k.stages++) {
    const int64_t bytes = (k.stages->reals + 1) * sizeof(REAL);
    failed = share(s->threads, s->T * k.c->parts, bytes, one_part, &k);
    if (!failed && k.stages->after)
      failed = share(k.stages->slow ? s->threads : 1, s->T, 0, one_after, &k);
  }
  return failed;
}

static void empty(REAL* restrict sums, REAL* restrict total, int64_t size) {
  FOR(e, size) total[e] += sums[e];
  memset(sums, 0, size * sizeof(REAL));
}

#endif
