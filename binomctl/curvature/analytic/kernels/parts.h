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
  REAL *gw;            /* gradient of the weights for every part */
} Call;

typedef void (*Phase)(const Call*, int64_t unit, REAL* work);

static Call begin(const Shape* s, const Tensors* d, int gradients) {
  const int64_t least = (PIXELS_AT_LEAST + s->H * s->W - 1) / (s->H * s->W);
  const int64_t even = (s->N + PARTS - 1) / PARTS;
  const int64_t size = least > even ? least : even, parts = (s->N + size - 1) / size;
  const int64_t kernel = 9 * s->I * s->C;
  Call c = {.s = s, .d = d, .parts = parts, .size = size};
  const int64_t reals =
      s->T * (6 * s->C + 2 * kernel + (gradients ? parts * kernel : 0)) + 1;
  c.sums = calloc(1, s->T * parts * 2 * s->C * sizeof(double) + reals * sizeof(REAL));
  c.affine = (REAL*)(c.sums + s->T * parts * 2 * s->C);
  c.packs[0] = c.affine + s->T * 6 * s->C;
  c.packs[1] = c.packs[0] + s->T * kernel;
  c.gw = c.packs[1] + s->T * kernel;
  return c;
}

static void end(Call* c) { free(c->sums); }

typedef struct {
  Phase phase;
  const Call* c;
} Phases;

static int phase_of(const void* arg, int64_t unit, void* work) {
  const Phases* p = arg;
  p->phase(p->c, unit, work);
  return 0;
}

/* phase(c, 0 .. units - 1), each with zeroed work space that its thread's phases share. */
static int run(Phase phase, const Call* c, int64_t units, int64_t reals) {
  const Phases p = {phase, c};
  return share(c->s->threads, units, (reals + 1) * sizeof(REAL), phase_of, &p);
}

INLINE const REAL* pack_of(const Call* c, int which, int64_t t) {
  return c->packs[which] + t * c->steps[which];
}

typedef struct {
  const Shape* s;
  const REAL* w;
  int64_t step;
  int transposed;
  REAL* to;
} Packing;

static int pack_one(const void* arg, int64_t t, void* unused) {
  const Packing* p = arg;
  const int64_t I = p->s->I, C = p->s->C;
  (void)unused;
  pack(p->w + t * p->step, C, I, p->transposed, p->to + t * 9 * I * C);
  return 0;
}

/* Packs the weights of all tasks, or the one that all share; nothing without weights. */
static void pack_all(Call* c, int which, const REAL* w, int64_t step, int transposed) {
  const Shape* s = c->s;
  if (!s->I || !w) return;
  c->steps[which] = step ? 9 * s->I * s->C : 0;
  const Packing p = {s, w, step, transposed, c->packs[which]};
  share(s->threads, step ? s->T : 1, 0, pack_one, &p);
}

static void empty(REAL* restrict sums, REAL* restrict total, int64_t size) {
  FOR(e, size) total[e] += sums[e];
  memset(sums, 0, size * sizeof(REAL));
}

#endif
