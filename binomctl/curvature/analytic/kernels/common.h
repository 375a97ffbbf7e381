/* Types and per-channel helpers. Compiled for REAL = float and double. */
#ifndef BINOMCTL_COMMON_H
#define BINOMCTL_COMMON_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FOR(i, n) for (int64_t i = 0; i < (n); i++)
/* Over channels: nothing that is written is read under another name. */
#define CHANNELWISE(c, n) _Pragma("omp simd") for (int64_t c = 0; c < (n); c++)
#define INLINE static inline __attribute__((always_inline))

/* Vectors as wide as the machine's registers; every pointer may be one, aligned or not. */
#if defined(VECTOR)
#elif defined(__AVX512F__)
#define VECTOR 64
#elif defined(__AVX__)
#define VECTOR 32
#else
#define VECTOR 16
#endif
typedef REAL vec __attribute__((vector_size(VECTOR), aligned(sizeof(REAL)), may_alias));
enum { LANES = VECTOR / sizeof(REAL) };

/* Sizes of a block: T tasks of N images H x W; I channels go into the 3 x 3 convolution in front
 * (0: there is none), C come out of it; k x k windows of the max-pool behind, which make the pooled
 * grid h = H / k, w = W / k (k = 1: no pool). Task t reads the input t % X. */
typedef struct {
  int64_t T, N, H, W, I, C, k, X;
  double eps, slope;
  int64_t threads; /* that may share the work */
} Shape;

/* Every tensor of the four maps, named as in block.c; NULL where one is not there. A task's own
 * begins at its number times the step: as it lies in memory for parameters (a step of 0 is one for
 * all tasks), one behind the other for all else. */
#define IMAGES(X) X(x) X(tx) X(gx) X(tgx)
#define WEIGHTS(X) X(w) X(tw) X(gw) X(tgw)
#define FULL(X) X(z) X(tz) X(gz) X(tgz)
#define POOLED(X) X(a) X(xh) X(ta) X(txh) X(ga) X(tga)
#define CHANNELS(X)                                                                      \
  X(gamma) X(beta) X(tgamma) X(tbeta) X(mu) X(inv) X(tmu) X(tinv) X(ggamma) X(gbeta) \
  X(tggamma) X(tgbeta)
#define FIELD(name) \
  REAL* name;       \
  int64_t name##_step;
typedef struct {
  IMAGES(FIELD) WEIGHTS(FIELD) FULL(FIELD) POOLED(FIELD) CHANNELS(FIELD) uint8_t* arg;
  int64_t arg_step;
} Tensors;

INLINE Tensors task(const Shape* s, Tensors d, int64_t t) {
#define ADVANCE(name) \
  if (d.name) d.name += t * d.name##_step;
  if (d.x) d.x += (t % s->X) * d.x_step;
  if (d.tx) d.tx += t * d.tx_step;
  if (d.gx) d.gx += t * d.gx_step;
  if (d.tgx) d.tgx += t * d.tgx_step;
  WEIGHTS(ADVANCE) FULL(ADVANCE) POOLED(ADVANCE) CHANNELS(ADVANCE)
  if (d.arg) d.arg += t * d.arg_step;
  return d;
}

/* sums[c] += the row's sums, in double: W terms at most are added up in REAL. */
INLINE void flush(double* restrict sums, REAL* restrict row, int64_t C) {
  CHANNELWISE(c, C) sums[c] += row[c];
  memset(row, 0, C * sizeof(REAL));
}

INLINE vec load(const REAL* p) { return *(const vec*)p; }
INLINE void store(REAL* p, vec v) { *(vec*)p = v; }

/* Adds up a line [W, C]: row += line - shift, row2 += (line - shift) (other - shift2), where other
 * is the line itself or another one. */
INLINE void add_up(const REAL* line, const REAL* shift, const REAL* other, const REAL* shift2,
                   int64_t W, int64_t C, REAL* row, REAL* row2) {
  int64_t c = 0;
  for (; c + LANES <= C; c += LANES) {
    vec one = load(row + c), two = load(row2 + c);
    const vec by = load(shift + c), by2 = load(shift2 + c);
    FOR(j, W) {
      const vec v = load(line + j * C + c) - by;
      one += v;
      two += v * (load(other + j * C + c) - by2);
    }
    store(row + c, one);
    store(row2 + c, two);
  }
  for (; c < C; c++) FOR(j, W) {
      const REAL v = line[j * C + c] - shift[c];
      row[c] += v;
      row2[c] += v * (other[j * C + c] - shift2[c]);
    }
}

#endif
