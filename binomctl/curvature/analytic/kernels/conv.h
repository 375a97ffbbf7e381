/* 3 x 3 convolution of one image with padding 1, its two transposes, on padded images [H+2, W+2, C].
 *
 * In channels last the window of a kernel row is 3 I numbers that lie together, so that an output
 * pixel is a sum over 3 rows of 3 I numbers, each times a vector of weights. A tile of up to 8
 * pixels and two vectors of channels stays in registers: 2 loads and 8 broadcasts for 16 fused
 * multiply-adds. Where channels that come out are no multiple of LANES, the last vector begins among
 * those of the one before, and both compute the same; of fewer than LANES a vector's rest is nobody's. */
#ifndef BINOMCTL_CONV_H
#define BINOMCTL_CONV_H

#include "common.h"

#if defined(__AVX512F__)
enum { PIXELS = 8 };
#else
enum { PIXELS = 6 }; /* 16 registers: 12 sums, 2 weights, one broadcast */
#endif
enum { FLUSH = 1024 }; /* pixels whose products are added up in one number */

/* One source of a convolution: the padded image and the packed weights. */
typedef struct {
  const REAL *image, *weights;
} Source;

/* Vectors of the block of channels that comes after c: two, or one alone. */
INLINE int vectors(int64_t C, int64_t c) { return C - c >= 2 * LANES ? 2 : 1; }

/* Where that block begins. */
INLINE int64_t start(int64_t C, int64_t c) {
  return C < LANES ? 0 : C - c < LANES ? C - LANES : c;
}

/* Numbers of packed weights with so many channels in and out. */
INLINE int64_t packed(int64_t in, int64_t out) {
  return 9 * in * ((out + LANES - 1) / LANES * LANES);
}

/* w [O, I, 3, 3] -> blocks of channels, in each [3, 3, I, block]; of the transposed convolution,
 * whose channels change sides and whose kernel is turned around, where `transposed`. */
static void pack(const REAL* restrict w, int64_t O, int64_t I, int transposed, REAL* restrict to) {
  const int64_t out = transposed ? I : O, in = transposed ? O : I;
  for (int64_t done = 0; done < out;) {
    const int64_t size = vectors(out, done) * LANES, b = start(out, done);
    FOR(q, 9) FOR(c, in) {
      REAL* restrict line = to + (q * in + c) * size;
      const int64_t there = size < out ? size : out;
      if (transposed)
        FOR(o, there) line[o] = w[(c * I + b + o) * 9 + 8 - q];
      else
        FOR(o, there) line[o] = w[((b + o) * I + c) * 9 + q];
      for (int64_t o = there; o < size; o++) line[o] = 0;
    }
    to += 9 * in * size;
    done += size;
  }
}

/* The gradient of the weights, in pack's order, as [O, I, 3, 3]. */
static void unpack(const REAL* restrict from, int64_t O, int64_t I, REAL* restrict gw) {
  for (int64_t done = 0; done < O;) {
    const int64_t size = vectors(O, done) * LANES, b = start(O, done);
    FOR(q, 9) FOR(c, I) {
      const REAL* restrict line = from + (q * I + c) * size;
      FOR(o, size < O ? size : O) gw[((b + o) * I + c) * 9 + q] = line[o];
    }
    from += 9 * I * size;
    done += size;
  }
}

/* An image [H, W, C] into the middle of a padded one, whose edge is zero already. */
static void pad(const REAL* restrict x, int64_t H, int64_t W, int64_t C, REAL* restrict to) {
  FOR(i, H) memcpy(to + ((i + 1) * (W + 2) + 1) * C, x + i * W * C, W * C * sizeof(REAL));
}

INLINE void tile(const Source* from, int sources, int64_t at, int64_t weights, int64_t pitch,
                 int64_t I, REAL* out, int64_t O, const int P, const int V) {
  vec sum[PIXELS][2];
  for (int p = 0; p < P; p++)
    for (int v = 0; v < V; v++) sum[p][v] = (vec){0};
  for (int s = 0; s < sources; s++) {
    const REAL *x = from[s].image + at, *w = from[s].weights + weights;
    for (int q = 0; q < 3; q++, x += pitch) FOR(r, 3 * I) {
      vec these[2];
      for (int v = 0; v < V; v++) these[v] = *(const vec*)(w + v * LANES);
      w += V * LANES;
      for (int p = 0; p < P; p++)
        for (int v = 0; v < V; v++) sum[p][v] += x[p * I + r] * these[v];
    }
  }
  if (V == 1 && O < LANES) {
    for (int p = 0; p < P; p++) FOR(o, O) out[p * O + o] = sum[p][0][o];
    return;
  }
  for (int p = 0; p < P; p++)
    for (int v = 0; v < V; v++) *(vec*)(out + p * O + v * LANES) = sum[p][v];
}

#define EACH(n, F) \
  switch (n) { F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) }

/* Row i of the convolution: out [W, O], the sum over all sources. */
static __attribute__((noinline)) void conv_row(const Source* from, int sources, int64_t i, int64_t W, int64_t I, int64_t O,
                     REAL* out) {
  const int64_t pitch = (W + 2) * I, count = (W + PIXELS - 1) / PIXELS;
  for (int64_t done = 0, weights = 0; done < O;) {
    const int V = vectors(O, done);
    const int64_t b = start(O, done);
    for (int64_t t = 0, j = 0; t < count; t++) {
      const int64_t P = W / count + (t < W % count), at = i * pitch + j * I;
      REAL* to = out + j * O + b;
      j += P;
#define ONE(p)                                                              \
  case p:                                                                   \
    if (p <= PIXELS && V == 2)                                              \
      tile(from, sources, at, weights, pitch, I, to, O, p <= PIXELS ? p : 1, 2); \
    else if (p <= PIXELS)                                                   \
      tile(from, sources, at, weights, pitch, I, to, O, p <= PIXELS ? p : 1, 1); \
    break;
      EACH(P, ONE)
#undef ONE
    }
    weights += 9 * I * V * LANES;
    done += V * LANES;
  }
}

INLINE void weight_tile(const REAL* x, int64_t xpitch, int64_t I, const REAL* g, int64_t gpitch,
                        int64_t O, int64_t rows, int64_t W, REAL* gw, const int R, const int V) {
  vec sum[PIXELS][2];
  for (int b = 0; b < R; b++)
    for (int v = 0; v < V; v++) sum[b][v] = *(vec*)(gw + (b * V + v) * LANES);
  FOR(i, rows) {
    const REAL *from = x + i * xpitch, *line = g + i * gpitch;
    FOR(j, W) {
      vec these[2];
      for (int v = 0; v < V; v++) these[v] = *(const vec*)(line + j * O + v * LANES);
      for (int b = 0; b < R; b++)
        for (int v = 0; v < V; v++) sum[b][v] += from[j * I + b] * these[v];
    }
  }
  for (int b = 0; b < R; b++)
    for (int v = 0; v < V; v++) *(vec*)(gw + (b * V + v) * LANES) = sum[b][v];
}

/* gw, in pack's order, += rows i .. i + rows - 1 of a padded image times the gradient g, whose rows
 * [W, O] are gpitch apart. */
static __attribute__((noinline)) void add_weight(const REAL* image, int64_t i, int64_t rows, int64_t W, int64_t I,
                       const REAL* g, int64_t gpitch, int64_t O, REAL* gw) {
  const int64_t pitch = (W + 2) * I;
  for (int64_t done = 0; done < O;) {
    const int V = vectors(O, done);
    const int64_t b = start(O, done);
    FOR(q, 3) for (int64_t r = 0; r < 3 * I; r += PIXELS) {
      const int64_t R = 3 * I - r < PIXELS ? 3 * I - r : PIXELS;
      const REAL* x = image + (i + q) * pitch + r;
      REAL* to = gw + (q * 3 * I + r) * V * LANES;
#define ONE(p)                                                                                   \
  case p:                                                                                        \
    if (p <= PIXELS && V == 2)                                                                   \
      weight_tile(x, pitch, I, g + b, gpitch, O, rows, W, to, p <= PIXELS ? p : 1, 2);           \
    else if (p <= PIXELS)                                                                        \
      weight_tile(x, pitch, I, g + b, gpitch, O, rows, W, to, p <= PIXELS ? p : 1, 1);           \
    break;
      EACH(R, ONE)
#undef ONE
    }
    gw += 9 * I * V * LANES;
    done += V * LANES;
  }
}

#endif
