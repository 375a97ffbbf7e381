/* Convolution, batch norm, (leaky) ReLU and k x k max-pool as one block: its four maps.
 *
 * z [N, H, W, C] is the input of batch norm: what the convolution of x makes of it, or what the
 * caller gives (I = 0). Edges that no window covers count in the statistics alone. With
 * xh = (z - mu) inv and y = gamma xh + beta the output is a = y > 0 ? y : slope y at the position
 * of each window where y is largest. Every full-size tensor of the backward maps is a per-channel
 * affine function of z (and of its tangent) plus a scatter of pooled values: each map reads or
 * writes z and tz once, row by row while the convolution uses them, and keeps no gradient of z.
 * All maps return 0, or 1 when there is no memory. */
#include "conv.h"

/* The largest of up * z over a window whose first entry is at z; ties go to the first. */
INLINE void choose(const REAL* restrict z, const REAL* restrict up, int64_t W, int64_t C, int64_t k,
                   REAL* restrict best, uint8_t* restrict which) {
  if (k == 2) {
    const REAL* restrict b = z + C, * restrict d = z + W * C, * restrict e = z + W * C + C;
    FOR(c, C) {
      const REAL u = up[c];
      const int right = u * b[c] > u * z[c], right2 = u * e[c] > u * d[c];
      const REAL top = right ? b[c] : z[c], low = right2 ? e[c] : d[c];
      const int lower = u * low > u * top;
      best[c] = lower ? low : top;
      which[c] = lower ? 2 + right2 : right;
    }
    return;
  }
  FOR(c, C) {
    best[c] = z[c];
    which[c] = 0;
  }
  for (int q = 1; q < k * k; q++) {
    const REAL* restrict here = z + ((q / k) * W + q % k) * C;
    FOR(c, C) {
      const int better = up[c] * here[c] > up[c] * best[c];
      best[c] = better ? here[c] : best[c];
      which[c] = better ? q : which[c];
    }
  }
}

/* The entry of a window that `which` names. */
INLINE void take(const REAL* restrict z, int64_t W, int64_t C, int64_t k,
                 const uint8_t* restrict which, REAL* restrict taken) {
  if (k == 2) {
    const REAL* restrict b = z + C, * restrict d = z + W * C, * restrict e = z + W * C + C;
    CHANNELWISE(c, C) {
      const REAL top = which[c] == 1 ? b[c] : z[c], low = which[c] == 3 ? e[c] : d[c];
      taken[c] = which[c] > 1 ? low : top;
    }
    return;
  }
  CHANNELWISE(c, C) taken[c] = z[c];
  for (int q = 1; q < k * k; q++) {
    const REAL* restrict here = z + ((q / k) * W + q % k) * C;
    CHANNELWISE(c, C) taken[c] = which[c] == q ? here[c] : taken[c];
  }
}

/* Zeroed work space: doubles, then REALs. */
static double* space(int64_t doubles, int64_t reals) {
  return calloc(1, doubles * sizeof(double) + (reals + 1) * sizeof(REAL));
}

/* Sizes that all maps use. */
#define SIZES                                                                             \
  const int64_t N = s->N, H = s->H, W = s->W, I = s->I, h = H / k, w = W / k, padded = I ? (H + 2) * (W + 2) * I : 0, kernel = 9 * I * C;    \
  const REAL slope = (REAL)s->slope;                                                      \
  (void)h, (void)w, (void)padded, (void)kernel, (void)slope, (void)N, (void)k

INLINE int forward_of_one(const Shape* s, Tensors d, const int64_t C, const int64_t k) {
  SIZES;
  double *sum = space(2 * C, 3 * C + padded + kernel), *square = sum + C;
  if (!sum) return 1;
  REAL *row = (REAL*)(square + C), *row2 = row + C, *up = row2 + C, *image = up + C,
       *weights = image + padded;
  const Source from = {image, weights};
  if (I) pack(d.w, C, I, 0, weights);
  /* A negative gamma makes the smallest z the largest y; under gamma = 0 all y tie: the first. */
  FOR(c, C) up[c] = d.gamma[c] < 0 ? -1 : d.gamma[c] > 0 ? 1 : 0;
  FOR(n, N) {
    if (I) pad(d.x + n * H * W * I, H, W, I, image);
    FOR(i, H) {
      REAL* line = d.z + (n * H + i) * W * C;
      if (I) conv_row(&from, 1, i, W, I, C, line);
      add_up(line, d.z, line, d.z, W, C, row, row2); /* shifted by the first: no cancellation */
      flush(sum, row, C);
      flush(square, row2, C);
      if (i % k == k - 1) FOR(j, w) {
        const int64_t at = ((n * h + i / k) * w + j) * C;
        choose(line - (k - 1) * W * C + j * k * C, up, W, C, k, d.xh + at, d.arg + at);
      }
    }
  }
  const double count = (double)N * H * W;
  FOR(c, C) {
    const double mean = sum[c] / count;
    const double variance = square[c] / count - mean * mean;
    d.mu[c] = (REAL)(d.z[c] + mean);
    d.inv[c] = (REAL)(1 / sqrt((variance > 0 || isnan(variance) ? variance : 0) + s->eps));
  }
  const REAL *restrict mu = d.mu, *restrict inv = d.inv;
  FOR(p, N * h * w) {
    REAL* restrict x = d.xh + p * C, * restrict out = d.a + p * C;
    CHANNELWISE(c, C) {
      x[c] = (x[c] - mu[c]) * inv[c];
      const REAL y = d.gamma[c] * x[c] + d.beta[c];
      out[c] = y > 0 ? y : slope * y;
    }
  }
  free(sum);
  return 0;
}

/* The coefficients of gz = scatter(sc gp) + al (z - mu) + de, gp = act'(y) ga, per channel, and
 * those of its tangent scatter(tsc gp + sc tgp) + al (tz - tmu) + tal (z - mu) + tde. */
typedef struct {
  REAL *sc, *al, *de, *tsc, *tal, *tde;
} Affine;

/* The pooled values that row i / k scatters: line [w, C] of gz, and tline of its tangent if asked. */
INLINE void pooled_line(const Shape* s, const int64_t C, const int64_t k, const Tensors* d, const Affine* f, int64_t n, int64_t i,
                        REAL* restrict line, REAL* restrict tline) {
  SIZES;
  FOR(j, w) {
    const int64_t at = ((n * h + i / k) * w + j) * C;
    const REAL *restrict a = d->a + at, *restrict ga = d->ga + at;
    const REAL *restrict sc = f->sc, *restrict tsc = f->tsc;
    if (line) CHANNELWISE(c, C) line[j * C + c] = sc[c] * ga[c] * (a[c] > 0 ? 1 : slope);
    if (tline) {
      const REAL* restrict tga = d->tga + at;
      CHANNELWISE(c, C) tline[j * C + c] = (tsc[c] * ga[c] + sc[c] * tga[c]) * (a[c] > 0 ? 1 : slope);
    }
  }
}

/* Row i of gz, or of tgz where t, at out [W, C]. */
INLINE void spread(const Shape* s, const int64_t C, const int64_t k, const Tensors* d, const Affine* f, int64_t n, int64_t i, int t,
                   const REAL* restrict line, REAL* restrict out) {
  SIZES;
  const REAL *restrict al = f->al, *restrict de = t ? f->tde : f->de, *restrict tal = f->tal;
  const REAL *restrict mu = d->mu, *restrict tmu = d->tmu;
  FOR(j, W) {
    const int64_t at = ((n * H + i) * W + j) * C;
    const REAL* restrict here = d->z + at;
    REAL* restrict to = out + j * C;
    if (t) {
      const REAL* restrict there = d->tz + at;
      CHANNELWISE(c, C) to[c] = al[c] * (there[c] - tmu[c]) + tal[c] * (here[c] - mu[c]) + de[c];
    } else {
      CHANNELWISE(c, C) to[c] = al[c] * (here[c] - mu[c]) + de[c];
    }
    if (i / k < h && j / k < w) {
      const uint8_t q = (uint8_t)((i % k) * k + j % k);
      const uint8_t* restrict which = d->arg + ((n * h + i / k) * w + j / k) * C;
      const REAL* restrict value = line + (j / k) * C;
      CHANNELWISE(c, C) to[c] += which[c] == q ? value[c] : 0;
    }
  }
}

/* The gradients behind a convolution: rows of gz (and of tgz) as they come, used while they are in
 * the cache for the gradient of the weights, and kept padded for that of the input if wanted. */
typedef struct {
  REAL *image, *timage, *g, *tg, *line, *tline, *sums, *total;
  Source back[2];
} Behind;

static int64_t behind_size(const Shape* s, int64_t C, int64_t k, int tangent) {
  SIZES;
  const int64_t grid = (H + 2) * (W + 2) * C;
  return I ? (1 + tangent) * (padded + grid + kernel) + 2 * kernel : 0;
}

static Behind behind(const Shape* s, int64_t C, int64_t k, REAL* at, REAL* lines, int tangent) {
  SIZES;
  const int64_t grid = (H + 2) * (W + 2) * C;
  Behind b = {.line = lines, .tline = lines + w * C};
  if (!I) return b;
  b.sums = at, b.total = at + kernel, b.image = b.total + kernel, b.g = b.image + padded;
  b.back[0] = (Source){b.g, b.g + grid};
  if (tangent) {
    b.timage = (REAL*)b.back[0].weights + kernel, b.tg = b.timage + padded;
    b.back[1] = (Source){b.tg, b.tg + grid};
  }
  return b;
}

static void empty(REAL* restrict sums, REAL* restrict total, int64_t size) {
  FOR(e, size) total[e] += sums[e];
  memset(sums, 0, size * sizeof(REAL));
}

/* All images' rows through `spread`: t = 0 gives gz to gx and gw; t = 1 gives both to tgx and tgw,
 * the tangents x * tgz + tx * gz and tgz * w + gz * tw of the same. Without a convolution the rows
 * are gz or tgz. */
INLINE void down(const Shape* s, const int64_t C, const int64_t k, const Tensors* d, const Affine* f, Behind* b, int t) {
  SIZES;
  REAL *gx = t ? d->tgx : d->gx, *gw = t ? d->tgw : d->gw;
  const int both = t && I && (d->tx || (gx && d->tw)); /* gz itself is needed */
  const int64_t pitch = (W + 2) * C, fit = 16384 / (int64_t)(W * C * sizeof(REAL));
  const int64_t group = fit > 1 ? fit : 1;
  int64_t pixels = 0;
  /* back[0] takes the transposed w to what varies, back[1] tw to gz. */
  Source sources[2] = {{t ? b->tg : b->g, b->back[0].weights}, {b->g, b->back[1].weights}};
  if (gx) pack(d->w, C, I, 1, (REAL*)sources[0].weights);
  if (gx && t && d->tw) pack(d->tw, C, I, 1, (REAL*)sources[1].weights);
  FOR(n, N) {
    if (I) pad(d->x + n * H * W * I, H, W, I, b->image);
    if (t && I && d->tx) pad(d->tx + n * H * W * I, H, W, I, b->timage);
    for (int64_t first = 0; first < H; first += group) {
      const int64_t rows = first + group > H ? H - first : group;
      REAL *g = b->g, *tg = b->tg; /* where the group begins: in place, or always at the top */
      if (I) g += (gx ? first + 1 : 1) * pitch + C;
      if (I && t) tg += (gx ? first + 1 : 1) * pitch + C;
      for (int64_t i = first; i < first + rows; i++) {
        if (i % k == 0 && i / k < h)
          pooled_line(s, C, k, d, f, n, i, !t || both ? b->line : NULL, t ? b->tline : NULL);
        if (!I) {
          REAL* out = (t ? d->tgz : d->gz) + (n * H + i) * W * C;
          spread(s, C, k, d, f, n, i, t, t ? b->tline : b->line, out);
          continue;
        }
        if (!t || both) spread(s, C, k, d, f, n, i, 0, b->line, g + (i - first) * pitch);
        if (t) spread(s, C, k, d, f, n, i, 1, b->tline, tg + (i - first) * pitch);
      }
      if (!I) continue;
      add_weight(b->image, first, rows, W, I, t ? tg : g, pitch, C, b->sums);
      if (t && d->tx) add_weight(b->timage, first, rows, W, I, g, pitch, C, b->sums);
      pixels += rows * W;
      if (pixels >= FLUSH) {
        empty(b->sums, b->total, kernel);
        pixels = 0;
      }
    }
    if (gx) FOR(i, H)
      conv_row(sources, t && d->tw ? 2 : 1, i, W, C, I, gx + (n * H + i) * W * I);
  }
  if (!I) return;
  empty(b->sums, b->total, kernel);
  unpack(b->total, C, I, gw);
}

INLINE int backward_of_one(const Shape* s, Tensors d, const int64_t C, const int64_t k) {
  SIZES;
  double *gb = space(2 * C, 5 * C + 2 * w * C + behind_size(s, C, k, 0)), *gg = gb + C;
  if (!gb) return 1;
  REAL *row = (REAL*)(gg + C), *row2 = row + C, *end = row2 + 4 * C;
  const Affine f = {.sc = row2 + C, .al = row2 + 2 * C, .de = row2 + 3 * C};
  Behind b = behind(s, C, k, end + 2 * w * C, end, 0);
  FOR(l, N * h) {
    FOR(j, w) {
      const int64_t at = (l * w + j) * C;
      const REAL *restrict a = d.a + at, *restrict ga = d.ga + at, *restrict xh = d.xh + at;
      CHANNELWISE(c, C) {
        const REAL g = ga[c] * (a[c] > 0 ? 1 : slope);
        row[c] += g;
        row2[c] += g * xh[c];
      }
    }
    flush(gb, row, C);
    flush(gg, row2, C);
  }
  const double count = (double)N * H * W;
  FOR(c, C) {
    d.gbeta[c] = (REAL)gb[c];
    d.ggamma[c] = (REAL)gg[c];
    f.sc[c] = d.gamma[c] * d.inv[c];
    f.al[c] = (REAL)(-f.sc[c] * d.inv[c] * gg[c] / count);
    f.de[c] = (REAL)(-f.sc[c] * gb[c] / count);
  }
  down(s, C, k, &d, &f, &b, 0);
  free(gb);
  return 0;
}

/* tgamma, tbeta, tw, tx: NULL where they do not vary. */
INLINE int tangent_of_one(const Shape* s, Tensors d, const int64_t C, const int64_t k) {
  SIZES;
  double *sum = space(2 * C, 6 * C + 2 * padded + 2 * kernel), *product = sum + C;
  if (!sum) return 1;
  REAL *row = (REAL*)(product + C), *row2 = row + C, *shrink = row2 + C, *tg = shrink + C,
       *tb = tg + C, *none = tb + C, *image = none + C, *timage = image + padded,
       *weights = timage + padded, *tweights = weights + kernel;
  Source from[2];
  int sources = 0;
  if (I && d.tw) {
    pack(d.tw, C, I, 0, tweights);
    from[sources++] = (Source){image, tweights};
  }
  if (I && d.tx) {
    pack(d.w, C, I, 0, weights);
    from[sources++] = (Source){timage, weights};
  }
  FOR(n, N) {
    if (I && d.tw) pad(d.x + n * H * W * I, H, W, I, image);
    if (I && d.tx) pad(d.tx + n * H * W * I, H, W, I, timage);
    FOR(i, H) {
      REAL* line = d.tz + (n * H + i) * W * C;
      if (I) conv_row(from, sources, i, W, I, C, line);
      add_up(line, none, d.z + (n * H + i) * W * C, d.mu, W, C, row, row2);
      flush(sum, row, C);
      flush(product, row2, C);
      if (i % k == k - 1) FOR(j, w) {
        const int64_t at = ((n * h + i / k) * w + j) * C;
        take(line - (k - 1) * W * C + j * k * C, W, C, k, d.arg + at, d.txh + at);
      }
    }
  }
  const double count = (double)N * H * W;
  FOR(c, C) {
    const double cov = d.inv[c] * product[c] / count; /* mean of c(tz) xh */
    d.tmu[c] = (REAL)(sum[c] / count);
    d.tinv[c] = (REAL)(-(double)d.inv[c] * d.inv[c] * cov);
    shrink[c] = (REAL)(d.inv[c] * cov);
    tg[c] = d.tgamma ? d.tgamma[c] : 0;
    tb[c] = d.tbeta ? d.tbeta[c] : 0;
  }
  const REAL *restrict inv = d.inv, *restrict tmu = d.tmu, *restrict gamma = d.gamma;
  FOR(p, N * h * w) {
    REAL *restrict t = d.txh + p * C, *restrict ta = d.ta + p * C;
    const REAL *restrict xh = d.xh + p * C, *restrict a = d.a + p * C;
    CHANNELWISE(c, C) {
      t[c] = inv[c] * (t[c] - tmu[c]) - xh[c] * shrink[c];
      const REAL ty = tg[c] * xh[c] + gamma[c] * t[c] + tb[c];
      ta[c] = ty * (a[c] > 0 ? 1 : slope);
    }
  }
  free(sum);
  return 0;
}

INLINE int tangent_backward_of_one(const Shape* s, Tensors d, const int64_t C, const int64_t k) {
  SIZES;
  double *tgb = space(2 * C, 8 * C + 2 * w * C + behind_size(s, C, k, 1)), *tgg = tgb + C;
  if (!tgb) return 1;
  REAL *row = (REAL*)(tgg + C), *row2 = row + C, *end = row2 + 7 * C;
  const Affine f = {row2 + C, row2 + 2 * C, row2 + 3 * C, row2 + 4 * C, row2 + 5 * C, row2 + 6 * C};
  Behind b = behind(s, C, k, end + 2 * w * C, end, 1);
  FOR(l, N * h) {
    FOR(j, w) {
      const int64_t at = (l * w + j) * C;
      const REAL *restrict a = d.a + at, *restrict ga = d.ga + at, *restrict tga = d.tga + at,
                 *restrict xh = d.xh + at, *restrict txh = d.txh + at;
      CHANNELWISE(c, C) {
        const REAL through = a[c] > 0 ? 1 : slope;
        row[c] += tga[c] * through;
        row2[c] += (tga[c] * xh[c] + ga[c] * txh[c]) * through;
      }
    }
    flush(tgb, row, C);
    flush(tgg, row2, C);
  }
  const double count = (double)N * H * W;
  FOR(c, C) {
    const double gg = d.ggamma[c], gb = d.gbeta[c];
    const REAL inv = d.inv[c], tinv = d.tinv[c], sc = d.gamma[c] * inv;
    const REAL tsc = (d.tgamma ? d.tgamma[c] : 0) * inv + d.gamma[c] * tinv;
    d.tgbeta[c] = (REAL)tgb[c];
    d.tggamma[c] = (REAL)tgg[c];
    f.sc[c] = sc;
    f.tsc[c] = tsc;
    f.al[c] = (REAL)(-sc * inv * gg / count);
    f.de[c] = (REAL)(-sc * gb / count);
    f.tal[c] = (REAL)(-(tsc * inv * gg + sc * tinv * gg + sc * inv * tgg[c]) / count);
    f.tde[c] = (REAL)(-(tsc * gb + sc * tgb[c]) / count);
  }
  down(s, C, k, &d, &f, &b, 1);
  free(tgb);
  return 0;
}

/* Tasks side by side in torch's own OpenMP threads; each is computed by one of them, so that the
 * numbers do not depend on how many there are. Sizes that few-shot networks have are constants. */
#define MAP(name)                                                                 \
  static int name##_of_task(const Shape* s, Tensors d) {                          \
    if (s->C == 32 && s->k == 2) return name##_of_one(s, d, 32, 2);               \
    if (s->C == 64 && s->k == 2) return name##_of_one(s, d, 64, 2);               \
    return name##_of_one(s, d, s->C, s->k);                                       \
  }                                                                               \
  int name(const Shape* s, const Tensors* d) {                                    \
    int failed = 0;                                                               \
    _Pragma("omp parallel for schedule(dynamic) reduction(|:failed) if (s->T > 1)") \
    FOR(t, s->T) failed |= name##_of_task(s, task(s, *d, t));                     \
    return failed;                                                                \
  }
MAP(forward)
MAP(backward)
MAP(tangent)
MAP(tangent_backward)

int lanes(void) { return LANES; }
